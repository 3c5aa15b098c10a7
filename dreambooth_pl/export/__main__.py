"""Export a run: `python -m dreambooth_pl.export RUN --format kohya --out FOLDER`."""

from dreambooth_pl.start import run_command

if __name__ == "__main__":
    run_command("export")
