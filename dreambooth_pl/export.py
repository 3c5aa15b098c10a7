"""Take a run elsewhere: ``python -m dreambooth_pl.export RUN --format kohya --out FOLDER``."""

from dreambooth_pl.cli_export import main
from dreambooth_pl.command_line import run_command

if __name__ == "__main__":
    run_command(main)
