"""Runs on disk: their folder, reading them, what they are generated with."""
