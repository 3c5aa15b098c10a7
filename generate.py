"""Draw images with a run or a LoRA file: `python generate.py RUN --prompt ...`; see `--help`."""

import sys

from dreambooth_pl.cli_generate import main

if __name__ == "__main__":
    sys.exit(main())
