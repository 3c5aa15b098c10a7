"""The commands: each has a file here, which a script or `python -m` calls."""
