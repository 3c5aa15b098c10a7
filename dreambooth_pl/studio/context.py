"""What the tabs share: the workspace with all that works on it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from typing import Any

from dreambooth_pl.studio.jobs.job_queue import JobQueue
from dreambooth_pl.studio.served_files import ServedFiles
from dreambooth_pl.studio.subjects import Subjects
from dreambooth_pl.studio.workspace import Workspace

_KEYS_MODULE = "dreambooth_pl.studio.setting_keys"


@dataclass
class Studio:
    """A studio at work on a workspace; all pages share it."""

    workspace: Workspace
    queue: JobQueue = field(init=False)
    subjects: Subjects = field(init=False)
    files: ServedFiles = field(init=False)
    _keys: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.workspace.make()
        self.queue = JobQueue(self.workspace)
        self.subjects = Subjects(self.workspace)
        self.files = ServedFiles(self.workspace)

    def read_keys(self) -> None:
        """Read the keys of training in the background: it takes some seconds."""
        threading.Thread(target=self._read_keys, daemon=True).start()

    def _read_keys(self) -> None:
        read = subprocess.run(
            [sys.executable, "-m", _KEYS_MODULE],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        if read.returncode == 0:
            self._keys = json.loads(read.stdout)

    @property
    def keys(self) -> list[dict[str, Any]]:
        """The keys of training, as in `setting_keys.SettingKey`; empty while they are read."""
        return self._keys
