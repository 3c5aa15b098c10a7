"""Image generation: requests, settings, the generation path, and metadata of the images."""
