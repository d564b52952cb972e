"""Messages know the arguments that they name: Python's users and those of the shell read each their own spelling."""

from __future__ import annotations

import ast
from pathlib import Path

import pandas as pd
import pytest
from helpers.study import FEATURES, study

import pycombat_gam as pcg
from pycombat_gam.cli import shell
from pycombat_gam.errors import DataError, OptionError
from pycombat_gam.words import Remedy, Setting, Worded, in_one

PACKAGE = Path(pcg.__file__).parent

SPELLED = {
    "a word": (Setting("missing", "omit"), "missing='omit'", "--missing omit"),
    "off": (Setting("eb", False), "eb=False", "--no-eb"),
    "on": (Setting("force", True), "force=True", "--force"),
    "any": (Setting("features", ...), "features=…", "--features"),
    "several": (Setting("id", ["subject", "visit"]), "id=['subject', 'visit']", "--id subject --id visit"),
    "free text": (Setting("features", "^x$"), "features='^x$'", "--features '^x$'"),
    "the name alone": (Setting("ref_batch"), "ref_batch", "--ref"),
    "two words": (Setting("on_unseen", "estimate"), "on_unseen='estimate'", "--on-unseen estimate"),
}


@pytest.mark.parametrize("name", SPELLED)
def test_a_setting_is_spelled_for_each(name: str) -> None:
    setting, in_python, in_shell = SPELLED[name]
    message = Worded("use ", setting, " here")
    assert message == f"use {in_python} here"
    assert shell.in_options(message) == f"use {in_shell} here"


def test_messages_within_messages_keep_their_settings() -> None:
    inner = Worded("use ", Setting("eb", False))
    assert shell.in_options(in_one(["a", Worded("b: ", inner), "c"])) == "a; b: use --no-eb; c"
    assert shell.in_options("use eb=False") == "use eb=False"


def test_every_remedy_has_its_words_in_the_shell() -> None:
    named = {
        node.args[0].value
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == Remedy.__name__
        if isinstance(node.args[0], ast.Constant)
    }
    assert named == set(shell._REMEDIES)


def test_an_error_carries_argument_and_value() -> None:
    table = study()
    table.loc[table.index[0], "vol"] = float("nan")
    with pytest.raises(DataError) as caught:
        pcg.ComBat("~ age", batch="site", features=FEATURES).fit(table)
    assert caught.value.settings == (Setting("missing", "omit"),)
    with pytest.raises(OptionError) as caught_too:
        pcg.ComBat("~ age", batch="site", features="zzz").fit(table)
    assert caught_too.value.settings == (Setting("features", "zzz"),)


def test_what_is_kept_is_plain_text() -> None:
    """Tables and notes hold text that no reader has to know anything of."""
    table = study()
    table.loc[table.index[0], "vol"] = float("nan")
    found = pcg.audit(table, "~ age", "site", id="subject", features=FEATURES)
    assert {type(verdict) for verdict in found.findings["verdict"]} == {str}


def test_what_stops_a_fit_is_known_without_its_words() -> None:
    table = study().assign(dx="control")
    found = pcg.audit(table, "~ age + dx", "site", id="subject", features=FEATURES).found
    assert any(finding.stops for finding in found)
    assert all(finding.stops == ("ComBat stops" in finding.verdict) for finding in found)
    assert not any(finding.stops for finding in pcg.audit(pd.DataFrame(study()), "~ age", "site", id="subject").found)
