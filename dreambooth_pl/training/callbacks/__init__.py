"""What happens around the training steps: class images, probes, fidelity, checkpoints, progress."""
