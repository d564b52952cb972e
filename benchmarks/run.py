"""Run the same harmonization with every package, one thread each; print what it cost and whether they agree.

    python benchmarks/run.py                              all sizes, and the non-parametric priors
    python benchmarks/run.py --sizes 1000x1000            a quick look
    python benchmarks/run.py --only pycombat_gam_ sva     some packages

Each package runs in a process of its own (`measure.py`, `measure.R`); this one hands out data and compares.
"""

import argparse
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
OURS = "pycombat_gam_"
ADAPTERS = {path.stem: path for path in (HERE / "adapters").iterdir() if path.suffix in (".py", ".R")}
ORDER = ["limit", OURS, "inmoose", "combatlearn", "neuroharmonize", "sva", "neurocombat_r"]
NONPARAMETRIC = [OURS, "sva", "neurocombat_r"]
THREADS = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "NUMEXPR_NUM_THREADS"),
    "1",
)
GB = 1e9
HEADER = ["package", "version", "CPU s", "of it system", "wall s", "peak GB", "peak/data", "CPU/limit", "CPU/ours"]
HEADER += ["difference (sd)"]
MAKE_DATA = """
import json, sys
from pathlib import Path
from pycombat_gam.datasets import simulate_multisite
folder, rows, features = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
study = simulate_multisite(sites=10, subjects=rows, features=features, seed=1)
study.table[list(study.features)].to_numpy().tofile(folder / "Y.bin")
study.covariates.to_csv(folder / "covariates.csv", index=False)
(folder / "size.json").write_text(json.dumps({"rows": rows, "features": features}))
"""


@dataclass
class Row:
    """One line of the table: seconds, bytes, and the largest difference from ours in the feature's sd."""

    prior: str
    rows: int
    features: int
    adapter: str
    status: str
    version: str = ""
    cpu: float = np.nan
    system: float = np.nan
    wall: float = np.nan
    peak: float = np.nan
    difference: float = np.nan

    @property
    def data(self) -> float:
        return 8.0 * self.rows * self.features


def run_once(adapter: str, folder: Path, prior: str, timeout: float) -> dict:
    """Measure one adapter in a fresh process; the report says so when it is missing or fails."""
    path = ADAPTERS[adapter]
    program = ["Rscript", HERE / "measure.R"] if path.suffix == ".R" else [sys.executable, HERE / "measure.py"]
    for name in ("out.json", "out.bin"):
        (folder / name).unlink(missing_ok=True)
    if shutil.which(str(program[0])) is None:
        return {"status": "not installed"}
    environment = {**os.environ, **THREADS}
    command = [str(part) for part in (*program, path, folder, prior)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return {"status": f"stopped after {timeout:.0f} s"}
    if (folder / "out.json").exists():
        return json.loads((folder / "out.json").read_text())
    last = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
    return {"status": f"failed: {last[:100]}"}


def best_of(adapter: str, folder: Path, prior: str, timeout: float, repeats: int) -> dict:
    """The run with the least CPU: on a shared machine the others measure the neighbours."""
    reports = []
    for _ in range(repeats):
        reports.append(run_once(adapter, folder, prior, timeout))
        if reports[-1]["status"] != "ok":
            return reports[-1]
    return min(reports, key=lambda report: report["cpu"])


def largest_difference(folder: Path, size: tuple[int, int]) -> float:
    """Largest |theirs − reference| over all cells, each in units of its feature's standard deviation."""
    names = ("Y.bin", "reference.bin", "out.bin")
    parts = [np.memmap(folder / name, dtype=np.float64, mode="r", shape=size) for name in names]
    step, worst = 2000, 0.0
    for start in range(0, size[1], step):
        Y, reference, theirs = (np.asarray(part[:, start : start + step]) for part in parts)
        worst = max(worst, float((np.abs(theirs - reference).max(axis=0) / Y.std(axis=0)).max()))
    return worst


def run_size(
    folder: Path, prior: str, size: tuple[int, int], adapters: list[str], args: argparse.Namespace
) -> list[Row]:
    """Measure every adapter on one table."""
    subprocess.run([sys.executable, "-c", MAKE_DATA, folder, str(size[0]), str(size[1])], check=True)
    usual = 1 if size[0] * size[1] > 2e7 or prior == "nonparametric" else 3
    lines = []
    for adapter in adapters:
        repeats = args.repeats or (3 if adapter in ("limit", OURS) else usual)
        report = best_of(adapter, folder, prior, args.timeout, repeats)
        line = Row(prior, *size, adapter, report["status"], report.get("version", ""))
        if report["status"] == "ok":
            for name in ("cpu", "system", "wall", "peak"):
                setattr(line, name, report[name])
            if adapter == args.reference:
                shutil.copyfile(folder / "out.bin", folder / "reference.bin")
            if (folder / "reference.bin").exists() and (folder / "out.bin").exists():
                line.difference = largest_difference(folder, size)
        print(f"  {adapter}: {line.status} {line.cpu:.2f} s", file=sys.stderr, flush=True)
        lines.append(line)
    return lines


def render(lines: list[Row]) -> list[list[str]]:
    """Cells of the table of one size; ratios are to the limit and to ours in the same run."""
    cpu = {line.adapter: line.cpu for line in lines}
    limit, ours = cpu.get("limit", np.nan), cpu.get(OURS, np.nan)

    def shown(value: float, pattern: str) -> str:
        return format(value, pattern) if np.isfinite(value) else "–"

    return [
        [
            line.adapter.rstrip("_"),
            line.version if line.status == "ok" else line.status,
            shown(line.cpu, ".3g"),
            shown(line.system, ".2g"),
            shown(line.wall, ".3g"),
            shown(line.peak / GB, ".2f"),
            shown(line.peak / line.data, ".1f"),
            shown(line.cpu / limit, ".1f"),
            shown(line.cpu / ours, ".1f"),
            shown(line.difference, ".1e"),
        ]
        for line in lines
    ]


def title(line: Row) -> str:
    size = f"{line.rows:,} × {line.features:,} ({line.data / GB:.3g} GB)"
    return f"{size}, 10 sites, ~ age + sex, {line.prior} prior"


def machine() -> str:
    """Processor, date, Python and numpy, so that a pasted table says where it comes from."""
    model, info = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].split(":")[1].strip() if lines else model
    software = f"Python {platform.python_version()}, numpy {np.__version__}"
    return f"{datetime.date.today()}, {model}, {software}, one thread"


def as_markdown(groups: list[list[Row]]) -> str:
    parts = [machine()]
    for lines in groups:
        parts += [f"\n**{title(lines[0])}**\n", f"| {' | '.join(HEADER)} |", "|---" * len(HEADER) + "|"]
        parts += [f"| {' | '.join(cells)} |" for cells in render(lines)]
    return "\n".join(parts) + "\n"


def size_of(text: str) -> tuple[int, int]:
    rows, _, features = text.lower().replace("×", "x").partition("x")
    if not (rows.isdigit() and features.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write rows x features, for example 1000x10000")
    return int(rows), int(features)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    sizes = [(1000, 1000), (1000, 10_000), (1000, 100_000)]
    add("--sizes", nargs="*", type=size_of, default=sizes, help="rows x features, for example 1000x10000")
    add("--nonparametric", nargs="*", type=size_of, default=[(1000, 1000)], help="sizes; none leaves it out")
    add("--only", nargs="+", choices=ORDER, default=ORDER)
    add("--reference", choices=ORDER, default=OURS, help="whose answer the others' is compared to")
    add("--repeats", type=int, help="runs of each, the least CPU counts (default 3; peers on large tables 1)")
    add("--timeout", type=float, default=1200.0, help="seconds per run")
    add("--out", type=Path, default=HERE / "results", help="folder for results.json and results.md")
    add("--scratch", type=Path, help="folder for the data (2.4 GB for 1000x100000)")
    args = parser.parse_args()

    order = sorted(args.only, key=lambda name: (name != args.reference, ORDER.index(name)))
    exact = [name for name in order if name in NONPARAMETRIC]
    plan = [("parametric", size, order) for size in args.sizes]
    plan += [("nonparametric", size, exact) for size in args.nonparametric]
    console = Console()
    console = console if console.is_terminal else Console(width=130)
    groups = []
    for prior, size, adapters in plan:
        with tempfile.TemporaryDirectory(dir=args.scratch, prefix="bench-") as folder:
            lines = run_size(Path(folder), prior, size, adapters, args)
        table = Table(*HEADER, title=title(lines[0]))
        for cells in render(lines):
            table.add_row(*cells)
        console.print(table)
        groups.append(lines)
    args.out.mkdir(parents=True, exist_ok=True)
    rows = [asdict(line) for lines in groups for line in lines]
    (args.out / "results.json").write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1))
    (args.out / "results.md").write_text(as_markdown(groups))
    print(f"written: {args.out / 'results.json'}, {args.out / 'results.md'}", file=sys.stderr)


if __name__ == "__main__":
    main()
