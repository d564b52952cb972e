"""Run one Python adapter once, alone in this process, and write what it cost.

    measure.py ADAPTER FOLDER PRIOR

FOLDER holds `Y.bin` (n × V doubles, row after row), `covariates.csv` and `size.json`; `out.bin` and
`out.json` go there. CPU is user + system time of `harmonize` only: imports, loading and the adapter's
`prepare` are not counted. The peak is the whole process's, data and imports included.
"""

import importlib.util
import io
import json
import re
import resource
import sys
import time
import warnings
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd


def cpu_seconds() -> np.ndarray:
    """User and system time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return np.array([used.ru_utime, used.ru_stime])


def peak_bytes() -> int:
    """The highest resident size of this process: Linux's own figure where there is one.

    `ru_maxrss` after fork and exec starts at the parent's peak, and is in bytes on macOS.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def load_adapter(path: Path):
    """Import an adapter under a name that hides no package."""
    spec = importlib.util.spec_from_file_location(f"adapter_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(adapter_path: str, folder: str, prior: str) -> None:
    where = Path(folder)
    size = json.loads((where / "size.json").read_text())
    try:
        adapter = load_adapter(Path(adapter_path))
    except ImportError as error:
        (where / "out.json").write_text(json.dumps({"status": f"not installed ({error})"}))
        return
    Y = np.fromfile(where / "Y.bin").reshape(size["rows"], size["features"])
    covariates = pd.read_csv(where / "covariates.csv")
    prepared = adapter.prepare(covariates)
    warnings.simplefilter("ignore")

    before, wall, cpu = peak_bytes(), time.perf_counter(), cpu_seconds()
    with redirect_stdout(io.StringIO()):
        out = adapter.harmonize(Y, covariates, prior, prepared)
    cpu, wall = cpu_seconds() - cpu, time.perf_counter() - wall
    peak = peak_bytes()

    if out is not None:
        np.ascontiguousarray(out, dtype=np.float64).tofile(where / "out.bin")
    report = {
        "status": "ok", "cpu": float(cpu.sum()),
        "system": float(cpu[1]), "wall": wall, "peak": peak, "loaded": before,
        "version": version(adapter.PACKAGE) if adapter.PACKAGE else "", "numpy": np.__version__,
    }  # fmt: skip
    (where / "out.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
