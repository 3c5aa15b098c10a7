"""The miniature: a picture-book world in code, and a small Stable Diffusion trained on it."""
