"""Base models: families, training objectives, loading and fingerprints."""
