"""Train and compare variants: ``python benchmark.py --config FILE``; see ``--help``."""

from dreambooth_pl.cli_benchmark import main
from dreambooth_pl.command_line import run_command

if __name__ == "__main__":
    run_command(main)
