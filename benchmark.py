"""Train and compare variants: `python benchmark.py --config FILE`; see `--help`."""

from dreambooth_pl.start import run_command

if __name__ == "__main__":
    run_command("benchmark")
