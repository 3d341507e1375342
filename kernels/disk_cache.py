"""What is kept on disk between processes: compiled loops, and what the compile gate found."""
from __future__ import annotations

import os
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """GPUGRAD_CACHE_DIR, else gpugrad/ in the user's cache folder."""
    chosen = os.environ.get("GPUGRAD_CACHE_DIR")
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpugrad"


def keep(path: Path, content: bytes) -> None:
    """Write at once or not at all: processes share the folder. Without a folder that can be written there is no cache."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(content)
        os.replace(file.name, path)
    except OSError:
        return
