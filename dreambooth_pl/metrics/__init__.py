"""How images are measured: formulas, encoders, distances."""
