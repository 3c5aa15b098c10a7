"""Runs on disk: their folders, what a finished run contains, reproduction of their images."""
