"""Draw images with a run or a LoRA file: `python generate.py RUN --prompt ...`; see `--help`."""

from dreambooth_pl.cli_generate import main
from dreambooth_pl.command_line import run_command

if __name__ == "__main__":
    run_command(main)
