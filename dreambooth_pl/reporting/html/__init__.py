"""The report of an evaluation: one HTML file that opens from disk, without a network."""
