"""Callbacks of a run: class images, probes, validation, checkpoints, export and progress."""
