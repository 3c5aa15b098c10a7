"""Train: `python train.py fit --config configs/sks.yaml`; see `python train.py fit --help`."""

from dreambooth_pl.cli import main
from dreambooth_pl.command_line import run_command

if __name__ == "__main__":
    run_command(main)
