"""Train a run: `python train.py fit --config configs/sks.yaml`; see `train.py fit --help`."""

from dreambooth_pl.commands.common import run_command
from dreambooth_pl.commands.train import main

if __name__ == "__main__":
    run_command(main)
