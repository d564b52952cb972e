"""The state of R on this machine: what is installed, whether it fits rpy2, and the commands that mend it.

R is asked by its own executables and rpy2 in a Python of its own: nothing is loaded or started in this process.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pycombat_gam.types import JsonDict
from r_bridge.session import APT, CRAN, FROM_CRAN, GITHUB, RPY2, how_to_get

NEEDS_R = (((3, 6, 6), (4, 5)),)
"""From which rpy2-rinterface on which R is needed: its C code uses functions that older R does not have."""
PACKAGES = {
    "mgcv": "the mean model, crosscheck",
    "lme4": "lmer, crosscheck of random effects",
    "nlme": "crosscheck of tests with site weights",
    "sva": "sva_combat, crosscheck",
    "neuroCombat": "neurocombat, crosscheck",
    "ComBatFamily": "comfam, crosscheck",
    "gamlss": "comfam(which='combatls')",
    "longCombat": "longcombat, crosscheck",
    "pROC": "roc",
    "metafor": "rma",
    "survival": "survfit",
    "reticulate": "calling pycombat_gam from R",
}
SECONDS = 60


@dataclass(frozen=True)
class Checkup:
    """The state of R on this machine; `str()` explains it.

    Attributes
    ----------
    r_home, r_version : str or None
        Of the R that was found.
    rpy2_version : str or None
        Of rpy2's interface to R, if it is installed.
    fits : bool
        Whether rpy2 can load this R.
    packages : dict of str to (str or None)
        Versions of the R packages that are used here; None where one is missing.
    problems : tuple of str
        What is wrong, a sentence each.
    remedies : tuple of str
        The commands that mend it, in order.
    """

    r_home: str | None
    r_version: str | None
    rpy2_version: str | None
    fits: bool
    packages: Mapping[str, str | None]
    problems: tuple[str, ...]
    remedies: tuple[str, ...]

    @property
    def usable(self) -> bool:
        """Whether R, rpy2 and mgcv are there and fit."""
        return self.fits and self.packages.get("mgcv") is not None

    def to_dict(self) -> JsonDict:
        """Return everything as plain data."""
        return {**asdict(self), "usable": self.usable}

    def __str__(self) -> str:
        unfit = ", does not work with this R" if self.r_version and not self.fits else ""
        lines = [
            f"R        {f'{self.r_version} in {self.r_home}' if self.r_version else 'not found'}",
            f"rpy2     {self.rpy2_version or 'not installed'}{unfit}",
        ]
        shown = {name: number or "missing" for name, number in self.packages.items()}
        widths = [max(map(len, column), default=0) + 2 for column in (shown, shown.values())]
        lines += [f"{name:<{widths[0]}}{number:<{widths[1]}}for {PACKAGES[name]}" for name, number in shown.items()]
        if self.problems:
            lines += ["", *self.problems, "", "To mend it:", *(f"  {remedy}" for remedy in self.remedies)]
        else:
            lines += ["", "Everything is in place."]
        return "\n".join(lines)


def doctor() -> Checkup:
    """Look for R, rpy2 and the R packages used here, and say how to get what is missing.

    Never raises: every broken state is an answer. R itself is not started in this process.

    >>> import r_bridge
    >>> sorted(r_bridge.doctor().packages)[:3]
    ['ComBatFamily', 'gamlss', 'lme4']
    """
    home, r_version = _r()
    rpy2_version = _version("rpy2-rinterface") or _version("rpy2")
    problems: list[str] = []
    remedies: list[str] = []
    packages: dict[str, str | None] = dict.fromkeys(PACKAGES)
    fits = False
    if r_version is None:
        problems.append("R is not installed, or not on the PATH.")
        remedies += [
            "sudo apt-get install r-base-dev r-cran-mgcv      (Debian, Ubuntu)",
            "conda install -c conda-forge r-base r-mgcv rpy2  (conda)",
            "https://cran.r-project.org                       (macOS, Windows)",
        ]
    if rpy2_version is None:
        problems.append("rpy2 is not installed.")
        remedies.append(RPY2)
    if r_version is not None and rpy2_version is not None:
        needed = next((r for rpy2, r in NEEDS_R if _numbers(rpy2_version) >= rpy2), (0,))
        if _numbers(r_version) < needed:
            problems.append(
                f"rpy2-rinterface {rpy2_version} needs R {'.'.join(map(str, needed))} or newer; this is {r_version}."
            )
            remedies.append(RPY2)
        elif failure := _failure():
            problems.append(f"rpy2 {rpy2_version} does not load R {r_version}: {failure}")
            remedies += [
                "sudo apt-get install r-base-dev && pip install --force-reinstall --no-cache-dir rpy2-rinterface",
            ]
        else:
            fits = True
    if r_version is not None:
        packages = _packages(home)
        for name in [name for name, version in packages.items() if version is None]:
            problems.append(f"R has no package {name}, for {PACKAGES[name]}.")
            remedies.append("   # or: ".join([how_to_get(name), *_elsewhere(name)]))
    return Checkup(home, r_version, rpy2_version, fits, packages, tuple(problems), tuple(remedies))


def _elsewhere(package: str) -> list[str]:
    """Commands that install an R package where there is no apt; those on GitHub have one way everywhere."""
    if package in GITHUB or package in FROM_CRAN:
        return []
    if APT.get(package, "").startswith("r-bioc-"):
        get = f'install.packages("BiocManager", repos = "{CRAN}"); BiocManager::install("{package}")'
        return [f"conda install -c conda-forge -c bioconda bioconductor-{package.lower()}", f"Rscript -e '{get}'"]
    get = f'install.packages("{package}", repos = "{CRAN}")'
    return [f"conda install -c conda-forge r-{package.lower()}", f"Rscript -e '{get}'"]


def _r() -> tuple[str | None, str | None]:
    """R's home and version, from its own executable: the one of R_HOME, else of the PATH."""
    home = os.environ.get("R_HOME")
    asked = [str(Path(home) / "bin" / "R")] if home else []
    asked += [on_path] if (on_path := shutil.which("R")) else []
    for executable in asked:
        output = _ask([executable, "--version"])
        if output and (number := re.search(r"R version (\d+\.\d+\.\d+)", output)):
            r_home = home if home and executable == asked[0] else _ask([executable, "RHOME"]).strip().splitlines()[-1]
            return r_home, number.group(1)
    return None, None


def _packages(home: str | None) -> dict[str, str | None]:
    script = str(Path(home) / "bin" / "Rscript") if home else "Rscript"
    code = "for (p in commandArgs(TRUE)) if (nzchar(system.file(package = p))) cat(p, format(packageVersion(p)), '\\n')"
    output = _ask([script, "-e", code, *PACKAGES])
    versions = dict(line.split()[:2] for line in output.splitlines() if len(line.split()) >= 2)
    return {name: versions.get(name) for name in PACKAGES}


def _failure() -> str:
    """Why rpy2 does not start R, from a Python of its own; nothing if it does."""
    code = "from rpy2 import rinterface; rinterface.initr(interactive=False); rinterface.evalr('1')"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"{type(error).__name__}"
    stderr = done.stderr.strip().splitlines()
    return "" if done.returncode == 0 else (stderr[-1] if stderr else f"it ended with {done.returncode}")


def _ask(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])
