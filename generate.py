"""Generate images with a run or a LoRA file: `python generate.py RUN`; see `--help`."""

from dreambooth_pl.start import run_command

if __name__ == "__main__":
    run_command("generate")
