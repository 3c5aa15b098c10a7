"""Train: `python train.py fit --config configs/sks.yaml`; see `python train.py fit --help`."""

import sys

from dreambooth_pl.cli import main

if __name__ == "__main__":
    sys.exit(main())
