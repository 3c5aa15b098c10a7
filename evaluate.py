"""Score runs and print a table: `python evaluate.py [RUN...]`; see `--help`."""

from dreambooth_pl.commands.common import run_command
from dreambooth_pl.commands.evaluate import main

if __name__ == "__main__":
    run_command(main)
