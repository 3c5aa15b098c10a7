"""Train and compare variants: `python benchmark.py --config FILE`; see `--help`."""

from dreambooth_pl.commands.benchmark import main
from dreambooth_pl.commands.common import run_command

if __name__ == "__main__":
    run_command(main)
