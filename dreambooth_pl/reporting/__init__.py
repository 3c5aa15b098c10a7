"""How scores are shown: tables, plots, files."""
