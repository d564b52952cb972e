"""The folder that `crosscheck` writes, run by R without Python."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

NO_PYTHON = {"PATH": str(Path(shutil.which("Rscript") or "/usr/bin/Rscript").parent), "LC_ALL": "C.UTF-8"}


def rerun(folder: Path, **env: str) -> tuple[int, str]:
    """Exit code and verdict of `agreement.R`, which has nothing else to say on its error stream."""
    done = subprocess.run(
        ["Rscript", str(folder / "agreement.R")],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env=NO_PYTHON | env,
    )
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout.strip().splitlines()[-1].strip().removeprefix("VERDICT: ")
