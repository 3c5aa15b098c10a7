"""Take a run elsewhere: ``python -m dreambooth_pl.export RUN --format kohya --out FOLDER``."""

import sys

from dreambooth_pl.cli_export import main

if __name__ == "__main__":
    sys.exit(main())
