"""Generate images with a run or a LoRA file: `python generate.py RUN`; see `--help`."""

from dreambooth_pl.commands.common import run_command
from dreambooth_pl.commands.generate import main

if __name__ == "__main__":
    run_command(main)
