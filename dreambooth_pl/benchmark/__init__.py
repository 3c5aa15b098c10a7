"""Benchmarks: subjects x variants x seeds, trained and compared in one table."""
