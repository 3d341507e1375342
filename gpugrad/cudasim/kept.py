"""PTX kept on disk between processes, as CuPy keeps its modules: compiling is a quarter of what a first launch takes."""

import hashlib
import json
import os
import pathlib

HEADERS = (".h", ".hpp", ".cuh")


def folder():
    """GPUGRAD_SIM_CACHE_DIR, which may be empty for none, else gpugrad-sim/ in the user's cache folder."""
    chosen = os.environ.get("GPUGRAD_SIM_CACHE_DIR")
    if chosen is not None:
        return pathlib.Path(chosen) if chosen else None
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "gpugrad-sim"


def key_of(*what, flags=()):
    """What a compilation depends on, headers in the folders of -I flags among it."""
    headers = [(file.name, found.st_size, found.st_mtime_ns) for flag in flags if flag.startswith("-I")
               for file, found in sorted((f, f.stat()) for f in pathlib.Path(flag[2:]).glob("*") if f.suffix in HEADERS)]
    return hashlib.sha256(repr((what, flags, headers)).encode()).hexdigest()


def kept(key, make):
    """make(), a tree for JSON, or what it returned in an earlier process. Where nothing can be written, nothing is kept."""
    place = folder()
    if place is None:
        return make()
    path = place / key
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        made = make()
    try:
        place.mkdir(parents=True, exist_ok=True)
        unfinished = place / f"{key}.{os.getpid()}"
        unfinished.write_text(json.dumps(made))
        unfinished.replace(path)
    except OSError:
        pass
    return made
