"""Score runs and print a table: `python evaluate.py [RUN...]`; see `--help`."""

from dreambooth_pl.start import run_command

if __name__ == "__main__":
    run_command("evaluate")
