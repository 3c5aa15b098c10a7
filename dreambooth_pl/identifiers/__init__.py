"""Rare words for a subject's name."""
