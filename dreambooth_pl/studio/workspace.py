"""Where the studio keeps what it makes: below the working folder, beside the runs."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from dreambooth_pl.files.writable import check_writable
from dreambooth_pl.runs.folder import LOGS

STUDIO = "studio_files"
MAX_NAME = 60
"""Characters of a name that becomes part of a path."""

_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)", re.IGNORECASE)  # on Windows


@dataclass(frozen=True)
class Workspace:
    """The folders of a studio.

    Args:
        root: the working folder, which has `lightning_logs/`.
    """

    root: Path

    @property
    def runs(self) -> Path:
        """Runs, of the studio and of the command line alike."""
        return self.root / LOGS

    @property
    def own(self) -> Path:
        """What the studio alone makes."""
        return self.root / STUDIO

    @property
    def subjects(self) -> Path:
        """A folder for each subject, with its photos."""
        return self.own / "subjects"

    @property
    def jobs(self) -> Path:
        """A folder for each command that was asked for."""
        return self.own / "jobs"

    @property
    def results(self) -> Path:
        """What jobs other than trainings make, in a folder of the job's number."""
        return self.own / "results"

    def make(self) -> None:
        """Make the folders.

        Raises:
            UserError: the working folder cannot be written to.
        """
        check_writable(self.own, "another working folder")
        for folder in (self.subjects, self.jobs, self.results):
            folder.mkdir(parents=True, exist_ok=True)


def safe_name(text: str) -> str:
    """Return a name as one part of a path: letters, digits, hyphens and underscores alone.

    Empty if nothing of it is left.

    >>> safe_name("../../etc/passwd"), safe_name("Мой пёс (2)"), safe_name("...")
    ('etc-passwd', 'Мой-пёс-2', '')
    """
    text = unicodedata.normalize("NFC", text)
    name = re.sub(r"[^\w]+", "-", text).strip("-")[:MAX_NAME].strip("-")
    return f"{name}-" if _RESERVED.fullmatch(name) else name
