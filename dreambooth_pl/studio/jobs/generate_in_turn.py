"""Several calls of `generate.py` in one process: importing PyTorch takes longer than an image.

`python -m dreambooth_pl.studio.jobs.generate_in_turn OPTIONS --then OPTIONS`. The studio imports
this file for its words, so it imports PyTorch only when it generates.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

THEN = "--then"
"""Stands between the options of two calls."""


def generate_in_turn(words: Sequence[str]) -> int:
    """Call the command with each part of the words, until one fails; return the exit status."""
    from dreambooth_pl.commands.generate import main

    words = list(words)
    while THEN in words:
        end = words.index(THEN)
        if status := main(words[:end]):
            return status
        words = words[end + 1 :]
    return main(words)


if __name__ == "__main__":
    from dreambooth_pl.start import run_command

    run_command(lambda: generate_in_turn(sys.argv[1:]))
