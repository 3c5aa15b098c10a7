"""Benchmarks: subjects x variants x seeds, trained one by one and put into one table."""
