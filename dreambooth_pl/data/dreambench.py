"""The DreamBooth dataset on disk: `dataset/<subject>/NN.jpg`, 30 subjects.

`python -m dreambooth_pl.miniature.subjects OUT` renders the miniature's subjects in the same
layout. Your own can have it too: one folder per subject.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dreambooth_pl.data.photos import VettingReport, vet_folder
from dreambooth_pl.errors import UserError
from dreambooth_pl.prompts import OWN_SUBJECTS, SUBJECTS, is_live

DATASET = "dataset"  # the folder in the dataset's repository that holds the subjects


@dataclass(frozen=True)
class Subject:
    """One subject of the dataset."""

    name: str
    """Name of its folder."""
    folder: Path
    """Folder of its photos."""
    class_noun: str
    live: bool
    """Whether it takes the prompts for live subjects, or else those for objects."""

    def photos(self) -> VettingReport:
        """Vet its photos.

        Raises:
            UserError: none of them can be used.
        """
        return vet_folder(self.folder, f"subject {self.name}")


class DreamBench(Mapping[str, Subject]):
    """The subjects in a folder, by name, in the dataset's order; others after them.

    Args:
        folder: the dataset's repository, or the folder in it that holds the subjects.
        class_nouns: of subjects that are not the dataset's, by name.
        names: of the subjects that matter; None for all that there are.

    Raises:
        UserError: no such folder, no subject in it, or one whose class noun nobody knows.
    """

    def __init__(
        self,
        folder: str | Path,
        class_nouns: Mapping[str, str] | None = None,
        names: Collection[str] | None = None,
    ) -> None:
        root = Path(folder)
        if not root.is_dir():
            raise UserError(
                f"There is no dataset folder {root}. Clone github.com/google/dreambooth, or draw "
                f"the miniature's subjects: python -m dreambooth_pl.miniature.subjects {root}"
            )
        root = subjects_folder(root)
        nouns = {**SUBJECTS, **OWN_SUBJECTS, **(class_nouns or {})}
        found = sorted(
            path.name
            for path in root.iterdir()
            if _is_subject(path) and (names is None or path.name in names)
        )
        unknown = [name for name in found if name not in nouns]
        if unknown:
            raise UserError(
                f"{root / unknown[0]}: what is it? Subjects are called as in the DreamBooth "
                f"dataset ({', '.join(list(nouns)[:3])}, ...); say the class noun of any other."
            )
        if not found:
            raise UserError(f"{root} holds no folder of a subject, such as {root / 'dog'}.")
        self.folder = root
        self._subjects = {
            name: Subject(name, root / name, noun, is_live(noun))
            for name, noun in nouns.items()
            if name in found
        }

    def __getitem__(self, name: str) -> Subject:
        return self._subjects[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._subjects)

    def __len__(self) -> int:
        return len(self._subjects)

    def missing(self) -> list[str]:
        """Return those of the dataset's subjects that the folder lacks."""
        return [name for name in SUBJECTS if name not in self]


def subjects_folder(folder: str | Path) -> Path:
    """Return the folder of the subjects: that in the dataset's repository, or ``folder``."""
    inner = Path(folder) / DATASET
    return inner if inner.is_dir() else Path(folder)


def _is_subject(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")
