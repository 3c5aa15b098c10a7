"""The miniature: a drawn picture-book world, and a small Stable Diffusion trained on it."""
