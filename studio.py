"""Serve the studio, a page in the browser: `python studio.py`; see `--help`."""

from dreambooth_pl.start import run_command
from dreambooth_pl.studio.command import main

if __name__ == "__main__":
    run_command(main)
