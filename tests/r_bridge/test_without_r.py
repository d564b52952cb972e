"""A machine without R, or with one that does not fit: everything else works, and what is missing is said."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

HIDE_RPY2 = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] == 'rpy2': raise ImportError('rpy2 is hidden')
sys.meta_path.insert(0, Hidden())
"""


def without_r(code: str, path: str = "") -> str:
    """Run code in a Python that finds no R but what is in the folder `path`."""
    kept = {name: value for name, value in os.environ.items() if name not in ("R_HOME", "PATH", "LD_LIBRARY_PATH")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True, text=True, check=False, env={**kept, "PATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_doctor_explains() -> None:
    said = without_r("import r_bridge; found = r_bridge.doctor(); assert not found.usable; print(found)")
    for text in ("not found", "R is not installed", "apt-get install r-base-dev r-cran-mgcv", "conda install", "cran"):
        assert text in said
    code = "import r_bridge; found = r_bridge.doctor().to_dict(); print(found['r_version'], found['usable'])"
    assert without_r(code) == "None False\n"


CALLS = pytest.mark.parametrize(
    "call",
    [
        "r_bridge.session.call('function() 1')",
        "r_bridge.sva_combat(table, '~ age', 'site')",
        "r_bridge.neurocombat(table, '~ age', 'site')",
        "r_bridge.comfam(table, '~ age', 'site')",
        "r_bridge.longcombat(table, '~ age + (1|subject)', 'site', id='subject', time='icv')",
        "r_bridge.crosscheck('~ age', table, batch='site')",
        "r_bridge.gam('icv ~ s(age)', table)",
        "r_bridge.lmer('icv ~ age + (1|site)', table)",
        "r_bridge.roc([True, False], [0.2, 0.1])",
        "r_bridge.rma([0.1, 0.5], [0.01, 0.02])",
        "r_bridge.survfit([1.0, 2.0], [True, False], [1.5])",
        "pcg.ComBat('~ s(age)', batch='site', id='subject', mean_model=r_bridge.MgcvMean()).fit(table)",
    ],
)


def asking(call: str) -> str:
    """A program that prints what is said of a missing R."""
    return f"""
import pycombat_gam as pcg, r_bridge
table = pcg.datasets.load_multisite().iloc[:, :8]
try:
    {call}
except r_bridge.session.RMissingError as error:
    print(error)
"""


@CALLS
def test_engines_say_how_to_get_r(call: str) -> None:
    assert without_r(asking(call)) == "R is not installed: apt-get install r-base-core\n"


@CALLS
def test_engines_say_how_to_get_rpy2(call: str) -> None:
    kept = os.environ | {"R_HOME": "/somewhere"}
    code = HIDE_RPY2 + asking(call)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=kept)
    assert "rpy2 is missing" in done.stdout and "pip install 'rpy2==3.6.6'" in done.stdout, done.stderr


def test_everything_else_works() -> None:
    code = """
import pycombat_gam as pcg
table = pcg.datasets.load_multisite()
model = pcg.ComBat('~ s(age) + sex', batch='site', id='subject', features='_thickness$')
print(model.fit_transform(table).shape == table.shape)
"""
    assert without_r(code) == "True\n"


def fake_r(folder: Path, version: str, packages: dict[str, str]) -> str:
    """Executables that answer as an R of this version with these packages."""
    (folder / "bin").mkdir(parents=True)
    listed = "; ".join(f"echo '{name} {number}'" for name, number in packages.items()) or "true"
    scripts = {
        folder / "R": f'[ "$1" = RHOME ] && echo {folder} || echo "R version {version} (2030-01-01)"',
        folder / "bin" / "Rscript": listed,
    }
    for place, text in scripts.items():
        place.write_text(f"#!/bin/sh\n{text}\n")
        place.chmod(place.stat().st_mode | stat.S_IXUSR)
    return str(folder)


def test_an_r_too_old_for_rpy2(tmp_path: Path) -> None:
    path = fake_r(tmp_path / "r", "4.2.2", {"mgcv": "1.8.41"})
    code = "import r_bridge.checkup as d; d._version = lambda name: '3.6.7'; print(d.doctor())"
    said = without_r(code, path)
    assert "rpy2-rinterface 3.6.7 needs R 4.5 or newer; this is 4.2.2" in said
    assert "pip install 'rpy2==3.6.6' 'rpy2-rinterface==3.6.5'" in said


def test_an_rpy2_that_does_not_load_r_and_packages_that_are_missing(tmp_path: Path) -> None:
    path = fake_r(tmp_path / "r", "4.5.1", {"lme4": "1.1.31"})
    said = without_r("import r_bridge; found = r_bridge.doctor(); assert not found.usable; print(found)", path)
    assert "does not load R 4.5.1" in said and "does not work with this R" in said
    assert "R has no package mgcv" in said and "apt-get install r-cran-mgcv" in said
    assert "apt-get install r-bioc-sva" in said
    for other in ("conda install -c conda-forge r-mgcv", 'install.packages("mgcv"', 'BiocManager::install("sva")'):
        assert other in said
    assert 'remotes::install_github("andy1764/ComBatFamily")' in said
    assert "no package lme4" not in said


def test_no_rpy2(tmp_path: Path) -> None:
    path = fake_r(tmp_path / "r", "4.5.1", {"mgcv": "1.9.3"})
    code = "import r_bridge.checkup as d; d._version = lambda name: None; print(d.doctor())"
    said = without_r(code, path)
    assert "rpy2 is not installed." in said and "pip install 'rpy2==3.6.6'" in said
