"""A training step that launches all of the denoiser's work on the GPU at once."""
