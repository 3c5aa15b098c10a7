"""Training: the module, its losses, what is encoded once, checkpoints; callbacks around it."""
