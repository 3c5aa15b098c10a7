"""Several runs of `train.py fit` side by side in one process."""
