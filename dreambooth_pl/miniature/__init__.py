"""The miniature: a picture-book world drawn with Pillow, and a small Stable Diffusion trained on it."""
