"""Score runs and print a table: ``python evaluate.py [RUN...]``; see ``--help``."""

from dreambooth_pl.cli_evaluate import main
from dreambooth_pl.command_line import run_command

if __name__ == "__main__":
    run_command(main)
