"""From prompts and seeds to images: the one path by which images are generated."""
