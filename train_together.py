"""Train the runs of a file side by side, for `benchmark.py --together`."""

from dreambooth_pl.start import run_command

if __name__ == "__main__":
    run_command("together.train")
