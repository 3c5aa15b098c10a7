"""Base models: their families and objectives, where they are read from, what identifies them."""
