"""Files on disk: atomic writes, locks, contact sheets and image metadata."""
