"""Train a run: `python train.py fit --config configs/sks.yaml`; see `train.py fit --help`."""

from dreambooth_pl.start import run_command

if __name__ == "__main__":
    run_command("train")
