"""Checks of a base: its noise schedule, its tokenizers, the size of images that it can make."""
