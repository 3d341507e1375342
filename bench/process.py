"""Running a fresh interpreter, for what only a process can show: start-up time and memory high-water marks."""

import os
import subprocess
import sys


def run(source: str, *argv: str, timeout: float = 600.0) -> str:
    """What a fresh Python prints that runs `source` with these arguments.

    Raises RuntimeError with the last line of its errors when it fails.
    """
    done = subprocess.run(
        [sys.executable, "-c", source, *argv],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=os.environ,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise RuntimeError(lines[-1])
    return done.stdout
