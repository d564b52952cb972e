"""GAMs beside mgcv, and ComBat-GAM beside the limit: seconds a feature, ratios, agreement; one thread, one run.

    python benchmarks/gam.py             three formulas, 207 features (mgcv: 20 of them), then 100,000 features
    python benchmarks/gam.py --small     without the 100,000

Each program runs in a process of its own (`measure.py`, `measure.R`), as in `run.py`, whose adapters' third argument
is the formula here.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from run import GB, THREADS

HERE = Path(__file__).resolve().parent
ROWS, SITES, FEATURES, SAMPLE, MANY = 1035, 20, 207, 20, 100_000
FORMULAS = {"~ s(age) + sex + dx": 1000, "~ s(age) + s(icv) + sex + dx": 100, "~ te(age, icv) + sex + dx": 100}
"""What is fitted, and how many times faster than mgcv a feature has to be."""
MAKE_DATA = """
import json, sys
from pathlib import Path
from pycombat_gam.datasets import simulate_multisite
folder, rows, sites, features, kept = Path(sys.argv[1]), *map(int, sys.argv[2:])
study = simulate_multisite(sites=sites, subjects=rows, features=features, seed=1)
study.table[list(study.features)].to_numpy()[:, :kept].tofile(folder / "Y.bin")
study.covariates.to_csv(folder / "covariates.csv", index=False)
(folder / "size.json").write_text(json.dumps({"rows": rows, "features": kept}))
"""


def make_data(folder: Path, features: int, kept: int) -> None:
    """Write a simulated study; `kept` of its features."""
    folder.mkdir()
    sizes = [str(number) for number in (ROWS, SITES, features, kept)]
    subprocess.run([sys.executable, "-c", MAKE_DATA, str(folder), *sizes], check=True)


def measure(adapter: Path, folder: Path, formula: str, repeats: int) -> dict:
    """The run with the least CPU, each in a fresh process."""
    program = ["Rscript", HERE / "measure.R"] if adapter.suffix == ".R" else [sys.executable, HERE / "measure.py"]
    reports = []
    for _ in range(repeats):
        command = [str(part) for part in (*program, adapter, folder, formula)]
        subprocess.run(command, env={**os.environ, **THREADS}, check=True, capture_output=True)
        reports.append(json.loads((folder / "out.json").read_text()))
        if reports[-1]["status"] != "ok":
            raise SystemExit(f"{adapter.name}: {reports[-1]['status']}")
    return min(reports, key=lambda report: report["cpu"])


def output(folder: Path, features: int) -> np.ndarray:
    return np.fromfile(folder / "out.bin").reshape(ROWS, features)


def against_mgcv(folder: Path) -> None:
    """Seconds a feature of ours and of mgcv, and how far the fits are apart."""
    make_data(folder / "all", FEATURES, FEATURES)
    make_data(folder / "some", FEATURES, SAMPLE)
    adapters = HERE / "gam_adapters"
    print(f"\n**{ROWS:,} rows, {SITES} sites, REML; mgcv on {SAMPLE} features, this package on {FEATURES}**\n")
    columns = ["formula (+ site)", "ComBat-GAM, ms a feature", "gam, ms a feature", "mgcv, ms a feature"]
    columns += ["mgcv / ComBat-GAM", "asked", "largest difference of fits (sd), median over features"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for formula, asked in FORMULAS.items():
        combat = measure(adapters / "combat_gam.py", folder / "all", formula, 5)["cpu"] / FEATURES
        ours = measure(adapters / "gam.py", folder / "all", formula, 5)["cpu"] / FEATURES
        fits = output(folder / "all", FEATURES)[:, :SAMPLE]
        theirs = measure(adapters / "mgcv.R", folder / "some", formula, 1)["cpu"] / SAMPLE
        Y = np.fromfile(folder / "some" / "Y.bin").reshape(ROWS, SAMPLE)
        gaps = (np.abs(fits - output(folder / "some", SAMPLE)) / (Y - fits).std(axis=0)).max(axis=0)
        cells = [f"`{formula}`", f"{1e3 * combat:.3f}", f"{1e3 * ours:.3f}", f"{1e3 * theirs:.0f}"]
        cells += [f"**{theirs / combat:,.0f}×**", f"{asked:,}×", f"{gaps.max():.1e}, {np.median(gaps):.1e}"]
        print(f"| {' | '.join(cells)} |", flush=True)


def against_the_limit(folder: Path) -> None:
    """The whole of ComBat-GAM on many features, in multiples of one copy and two products."""
    make_data(folder / "many", MANY, MANY)
    data = 8.0 * ROWS * MANY
    print(f"\n**{ROWS:,} × {MANY:,} ({data / GB:.2f} GB), {SITES} sites: fit and transform**\n")
    print("| program | CPU s | ms a feature | CPU / limit | peak GB | peak / data |\n|---|---|---|---|---|---|")
    limit = measure(HERE / "adapters" / "limit.py", folder / "many", "", 3)
    formula = next(iter(FORMULAS))
    ours = measure(HERE / "gam_adapters" / "combat_gam.py", folder / "many", formula, 3)
    for name, report in (("limit", limit), (f"ComBat-GAM `{formula}`", ours)):
        ratio, peak, each = report["cpu"] / limit["cpu"], report["peak"], 1e3 * report["cpu"] / MANY
        print(
            f"| {name} | {report['cpu']:.2f} | {each:.4f} | {ratio:.1f} | {peak / GB:.2f} | {peak / data:.2f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="leave the 100,000 features out")
    arguments = parser.parse_args()
    print(f"{datetime.date.today()}, one thread")
    with tempfile.TemporaryDirectory() as folder:
        against_mgcv(Path(folder))
        if not arguments.small:
            against_the_limit(Path(folder))


if __name__ == "__main__":
    main()
