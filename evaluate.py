"""Score runs and print a table: ``python evaluate.py [RUN...]``; see ``--help``."""

import sys

from dreambooth_pl.cli_evaluate import main

if __name__ == "__main__":
    sys.exit(main())
