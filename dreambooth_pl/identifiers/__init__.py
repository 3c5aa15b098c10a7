"""Rare words as identifiers of a subject."""
