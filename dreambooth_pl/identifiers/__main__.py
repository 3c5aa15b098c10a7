"""Find a rare word for a subject: `python -m dreambooth_pl.identifiers --class dog`."""

from dreambooth_pl.start import run_command

if __name__ == "__main__":
    run_command("identifiers")
