"""Train and compare variants: ``python benchmark.py --config FILE``; see ``--help``."""

import sys

from dreambooth_pl.cli_benchmark import main

if __name__ == "__main__":
    sys.exit(main())
