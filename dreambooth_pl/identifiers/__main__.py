"""Find a rare word for a subject: `python -m dreambooth_pl.identifiers --class dog`."""

from dreambooth_pl.commands.common import run_command
from dreambooth_pl.commands.identifiers import main

if __name__ == "__main__":
    run_command(main)
