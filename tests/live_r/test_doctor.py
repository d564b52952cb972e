"""The doctor on a machine with R says what R says."""

from __future__ import annotations

import subprocess

import pytest
from typer.testing import CliRunner

import r_bridge
from pycombat_gam.cli import app
from r_bridge.checkup import PACKAGES
from r_bridge.cli import doctor as command

pytestmark = pytest.mark.live_r


def test_versions_are_those_of_r() -> None:
    found = r_bridge.doctor()
    assert found.usable and found.fits
    said = subprocess.run(
        ["Rscript", "-e", "cat(as.character(getRversion()), R.home())"], capture_output=True, text=True, check=True
    )
    assert [found.r_version, found.r_home] == said.stdout.split()
    for name in ("mgcv", "lme4", "sva", "reticulate"):
        assert found.packages[name] == str(
            r_bridge.session.call("function(name) format(utils::packageVersion(name))", name=name)[0]
        )
    assert set(found.packages) == set(PACKAGES)
    missing = [name for name, number in found.packages.items() if number is None]
    assert len(found.problems) == len(found.remedies) == len(missing)


def test_the_command() -> None:
    if "doctor" not in [one.name for one in app.registered_commands]:
        app.command("doctor")(command)
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 0 and "mgcv" in done.output
