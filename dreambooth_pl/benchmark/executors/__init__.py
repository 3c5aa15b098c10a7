"""Executors run the script calls of a benchmark: on this machine, on Ray, on SLURM."""
