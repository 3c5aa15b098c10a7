"""Photos, class images, and the data module that pairs them."""
