"""Saved models come back bit for bit; truncated and altered files are refused."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers.study import FEATURES, in_site, only, study

import pycombat_gam as pcg
from pycombat_gam.errors import ModelFileError, OutputError


def awkward(table: pd.DataFrame) -> pd.DataFrame:
    table = table[(table["site"] != "Turin") | (table.index == 20)]
    return in_site(table.assign(thick=1.5), "area", "Oslo", 4.25)


def with_holes(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(area=table["area"].where(table.index % 5 > 0), vol=table["vol"].where(table.index != 4))


MODELS: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], dict[str, Any]]] = {
    "default": (lambda t: t, {}),
    "no covariates": (lambda t: t, {"formula": "~ 1"}),
    "no eb": (lambda t: t, {"eb": False}),
    "nonparametric": (lambda t: t, {"prior": "nonparametric"}),
    "mean only": (lambda t: t, {"mean_only": True}),
    "reference": (lambda t: t, {"ref_batch": "Oslo"}),
    "reference by number": (lambda t: t.assign(site=t["site"].str.len()), {"ref_batch": 5, "batch": "site"}),
    "missing": (with_holes, {"missing": "omit"}),
    "awkward": (awkward, {}),
    "factors and bases": (lambda t: t, {"formula": "~ sex + ns(age, 2)"}),
    "poly, log, center": (
        lambda t: t.assign(icv=t["age"] ** 3 % 100),
        {"formula": "~ poly(age, 2) + sex:log(age) + center(icv)"},
    ),
    "strange names": (
        lambda t: t.rename(columns={"age": "Âge (années)", "site": "site, “scanner”"}),
        {"formula": "~ `Âge (années)`", "batch": "site, “scanner”"},
    ),
    "regular expression": (lambda t: t, {"features": "^(area|vol|depth)$"}),
    "tuple of features, ids": (lambda t: t, {"features": tuple(FEATURES), "id": ("subject", "sex")}),
    "all the rest": (
        lambda t: t,
        {"id": "subject", "output": "features", "on_unseen": "estimate", "smoothing": "ML"},
    ),
}


def fitted(name: str = "default") -> tuple[pcg.ComBat, pd.DataFrame]:
    change, options = MODELS[name]
    table = change(study())
    model = pcg.ComBat(**{"formula": "~ age", "batch": "site", "features": FEATURES, **options})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pcg.PcgWarning)
        return model.fit(table), table


@pytest.fixture
def path(tmp_path: Path) -> Path:
    model, _ = fitted("factors and bases")
    model.save(tmp_path / "model.pcg")
    return tmp_path / "model.pcg"


# Round trips


@pytest.mark.parametrize("name", MODELS)
def test_round_trip_bit_for_bit(name: str, tmp_path: Path) -> None:
    model, table = fitted(name)
    model.save(tmp_path / "a.pcg")
    again = pcg.load(tmp_path / "a.pcg")
    pd.testing.assert_frame_equal(again.transform(table), model.transform(table), check_exact=True)
    pd.testing.assert_frame_equal(again.transform(table.iloc[[3]]), model.transform(table.iloc[[3]]), check_exact=True)
    for field in fields(model.estimates):
        ours, theirs = getattr(again.estimates, field.name), getattr(model.estimates, field.name)
        (pd.testing.assert_frame_equal if isinstance(ours, pd.DataFrame) else pd.testing.assert_series_equal)(
            ours, theirs, check_exact=True
        )
    assert again.summary().to_dict()["batches"] == model.summary().to_dict()["batches"]
    assert again.summary().to_dict()["table"] == model.summary().to_dict()["table"]
    assert str(again.summary()).split("\n")[2:] == str(model.summary()).split("\n")[2:]
    given, back = model.get_params(), again.get_params()
    for option in given:
        # A tuple comes back as a list, and a label as its text.
        expected = list(given[option]) if isinstance(given[option], tuple) else given[option]
        assert back[option] == (str(expected) if option == "ref_batch" and expected is not None else expected), option
    again.save(tmp_path / "b.pcg")
    assert (tmp_path / "a.pcg").read_bytes() == (tmp_path / "b.pcg").read_bytes()


def test_unseen_sites_are_estimated_alike_by_a_loaded_model(tmp_path: Path) -> None:
    table = study()
    model = pcg.ComBat("~ age", batch="site", features=FEATURES, on_unseen="estimate", prior="nonparametric")
    model.fit(only(table, "Lyon", "Oslo")).save(tmp_path / "model.pcg")
    with pytest.warns(pcg.PcgWarning, match="Turin"):
        ours = model.transform(table)
    with pytest.warns(pcg.PcgWarning, match="Turin"):
        pd.testing.assert_frame_equal(pcg.load(tmp_path / "model.pcg").transform(table), ours, check_exact=True)


def test_equal_models_are_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        fitted("factors and bases")[0].save(tmp_path / f"{name}.pcg")
    assert (tmp_path / "a.pcg").read_bytes() == (tmp_path / "b.pcg").read_bytes()


def test_hash_seed_does_not_reach_the_file(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from helpers.study import FEATURES, study; "
        "import pycombat_gam as pcg; "
        "pcg.ComBat('~ sex + dx', batch='site', features=FEATURES).fit(study()).save(sys.argv[2])"
    )
    tests = str(Path(__file__).parents[1])
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", code, tests, str(tmp_path / seed)], check=True, env=environment)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_saving_over_a_model_replaces_it_and_leaves_nothing_beside(tmp_path: Path) -> None:
    fitted("default")[0].save(tmp_path / "model.pcg")
    fitted("reference")[0].save(tmp_path / "model.pcg")
    assert pcg.load(tmp_path / "model.pcg").ref_batch == "Oslo"
    assert [p.name for p in tmp_path.iterdir()] == ["model.pcg"]


def test_saving_where_it_cannot_be_saved(tmp_path: Path) -> None:
    model, _ = fitted()
    with pytest.raises(OutputError, match=r"folder '.*nowhere' does not exist"):
        model.save(tmp_path / "nowhere" / "model.pcg")
    with pytest.raises(OutputError, match="it is a folder; give a file name"):
        model.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


# Broken files

NOT_MODELS: dict[str, bytes] = {
    "empty": b"",
    "text": b"site,age\nA,3\n",
    "pickle": pickle.dumps({"format": "pycombat_gam"}),
    "only a zip's end": b"PK\x05\x06" + bytes(18),
}


@pytest.mark.parametrize("name", NOT_MODELS)
def test_not_a_model(name: str, tmp_path: Path) -> None:
    (tmp_path / "m.pcg").write_bytes(NOT_MODELS[name])
    with pytest.raises(ModelFileError, match=r"m\.pcg"):
        pcg.load(tmp_path / "m.pcg")


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    for place in (tmp_path / "none.pcg", tmp_path):
        with pytest.raises(ModelFileError, match="no model file at"):
            pcg.load(place)


def test_truncated_at_every_position(path: Path) -> None:
    whole = path.read_bytes()
    positions = {*range(64), *range(len(whole) - 400, len(whole)), *range(0, len(whole), len(whole) // 150)}
    for at in positions:
        path.write_bytes(whole[:at])
        with pytest.raises(ModelFileError, match=r"model\.pcg"):
            pcg.load(path)


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_altered_at_every_position(flip: int, path: Path, tmp_path: Path) -> None:
    """A flipped byte is refused; one that says nothing (a time stamp in the zip) changes nothing."""
    whole = path.read_bytes()
    harmless = 0
    for at in {*range(flip % 7, len(whole), len(whole) // 500), *range(len(whole) - 300, len(whole))}:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :])
        try:
            model = pcg.load(path)
        except ModelFileError:
            continue
        harmless += 1
        model.save(tmp_path / "again")
        assert (tmp_path / "again").read_bytes() == whole, at
    assert harmless < 120


def test_altered_content_is_always_refused(path: Path) -> None:
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    for content in contents.values():
        start = whole.index(content)
        for at in range(start, start + len(content), max(1, len(content) // 150)):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x04]) + whole[at + 1 :])
            with pytest.raises(ModelFileError):
                pcg.load(path)


def test_swapped_halves_and_spliced_files(path: Path, tmp_path: Path) -> None:
    fitted("default")[0].save(tmp_path / "other.pcg")
    a, b = path.read_bytes(), (tmp_path / "other.pcg").read_bytes()
    for mixed in (a[: len(a) // 2] + b[len(b) // 2 :], a[len(a) // 2 :] + a[: len(a) // 2], a[:-50] + b[-50:]):
        path.write_bytes(mixed)
        with pytest.raises(ModelFileError):
            pcg.load(path)
