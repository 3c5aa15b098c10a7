"""Export a run: `python -m dreambooth_pl.export RUN --format kohya --out FOLDER`."""

from dreambooth_pl.commands.common import run_command
from dreambooth_pl.commands.export import main

if __name__ == "__main__":
    run_command(main)
