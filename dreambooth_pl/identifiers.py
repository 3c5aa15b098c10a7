"""Find a rare word for a subject: ``python -m dreambooth_pl.identifiers --class dog``."""

import sys

from dreambooth_pl.cli_identifiers import main

if __name__ == "__main__":
    sys.exit(main())
