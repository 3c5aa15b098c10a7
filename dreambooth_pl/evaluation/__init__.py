"""From runs and images to scores with intervals: protocols, images on disk, score tensors."""
