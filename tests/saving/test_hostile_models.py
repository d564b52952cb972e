"""Hostile models, rebuilt with matching hashes: each is refused, and nothing in it is executed."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.forgery import forge, forge_arrays, forge_model, nan, read, refused
from helpers.study import FEATURES, study

import pycombat_gam as pcg


@pytest.fixture
def path(tmp_path: Path) -> Path:
    pcg.ComBat("~ sex + ns(age, 2)", batch="site", features=FEATURES).fit(study()).save(tmp_path / "model.pcg")
    return tmp_path / "model.pcg"


def test_a_forgery_without_changes_loads(path: Path) -> None:
    """So the refusals below are for what was changed, not for the forging."""
    before = pcg.load(path).transform(study())
    forge(path, read(path))
    pd.testing.assert_frame_equal(pcg.load(path).transform(study()), before)
    forge_model(path, lambda model: None)
    forge_arrays(path)
    pd.testing.assert_frame_equal(pcg.load(path).transform(study()), before)


@pytest.mark.parametrize("name", ["evil.py", "../evil", "arrays2.npz", "model.json/"])
def test_an_entry_more(name: str, path: Path) -> None:
    forge(path, {**read(path), name: b"x"})
    refused(path, "a model file holds")


@pytest.mark.parametrize("name", ["model.json", "arrays.npz", "manifest.json"])
def test_an_entry_renamed_or_gone(name: str, path: Path) -> None:
    entries = read(path)
    content = entries.pop(name)
    for extra in ({}, {name.upper(): content}):
        with zipfile.ZipFile(path, "w") as archive:
            for other, bytes_ in {**entries, **extra}.items():
                archive.writestr(other, bytes_)
        refused(path, "a model file holds")


def test_an_entry_twice(path: Path) -> None:
    forge(path, read(path))
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("model.json", b"{}")
    refused(path, "a model file holds")


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_entries(compression: int, path: Path) -> None:
    """No small file may unfold into a large one."""
    forge(path, read(path), compression=compression)
    refused(path, "not compressed")


def test_compressed_arrays(path: Path) -> None:
    entries = read(path)
    out = io.BytesIO()
    with np.load(io.BytesIO(entries["arrays.npz"])) as arrays:
        np.savez_compressed(out, **arrays)
    forge(path, {**entries, "arrays.npz": out.getvalue()})
    refused(path)


@pytest.mark.parametrize(
    ("manifest", "says"),
    [
        ({"format": "pickle"}, "no format 'pycombat_gam'"),
        ({"version": 3}, "format version 3.*update pycombat_gam"),
        ({"version": 1}, "its content differs from the model it describes"),
        ({"version": "1"}, "format version '1'"),
        ({"version": None}, "format version None"),
        ({"kind": "tree"}, "kind 'tree'.*knows combat, flow"),
        ({"kind": "flow"}, "parameters must be those of FlowSCM"),
        ({"kind": 3}, "not an object|kind"),
        ({"entries": []}, "."),
        ({"entries": {"model.json": {"bytes": "many", "sha256": ""}}}, "altered"),
    ],
    ids=[
        "format",
        "version",
        "an earlier version",
        "version as text",
        "no version",
        "kind",
        "kind another",
        "kind a number",
        "entries a list",
        "sizes text",
    ],
)
def test_another_manifest(manifest: dict[str, Any], says: str, path: Path) -> None:
    forge(path, read(path), manifest)
    refused(path, says)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"params": NaN}', b'{"params": 1}' + b" " * 9, b"{}"],
    ids=["empty", "cut", "list", "null", "not UTF-8", "deep", "NaN", "spaces", "no keys"],
)
def test_another_model_json(content: bytes, path: Path) -> None:
    forge(path, {**read(path), "model.json": content})
    refused(path)


class Payload:
    """What a hostile pickle holds: creates a file when it is loaded."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("where", ["features", "coefficients", "extra"])
def test_a_pickle_inside_is_not_executed(where: str, path: Path, tmp_path: Path) -> None:
    target = tmp_path / "executed"
    array = np.empty(1, dtype=object)
    array[0] = Payload(target)
    forge_arrays(path, **{where: lambda _: array})
    # The payload works: plain numpy runs it.
    with np.load(io.BytesIO(read(path)["arrays.npz"]), allow_pickle=True) as arrays:
        arrays[where]
    assert target.exists()
    target.unlink()
    refused(path, "pickle|Object arrays")
    assert not target.exists()


def test_a_bare_pickle_as_an_array_is_not_executed(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "executed"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("features.npy", pickle.dumps(Payload(target)))
    forge(path, {**read(path), "arrays.npz": out.getvalue()})
    refused(path)
    assert not target.exists()


PYTHON = [
    "~ __import__('os').system('touch {}')",
    "~ age + __import__('pathlib').Path('{}').touch()",
    "~ I(__import__('os').system('touch {}'))",
    "~ `__import__('os').system('touch {}')`",
    "~ log(age, base=__import__('os').system('touch {}'))",
    '~ eval(\'open("{}", "w")\')',
    "~ open('{}', 'w')",
    "~ Q('age').__class__.__base__.__subclasses__()",
    "~ np.lib.format.open_memmap('{}')",
    "~ (lambda: open('{}', 'w'))()",
    "~ [open('{}', 'w') for x in (1,)]",
    "~ system('touch {}')",
]


@pytest.mark.parametrize("formula", PYTHON)
def test_python_in_the_formula_is_not_executed(formula: str, path: Path, tmp_path: Path) -> None:
    target = tmp_path / "executed"

    def edit(model: dict[str, Any]) -> None:
        model["params"]["formula"] = model["design"]["formula"] = formula.format(target)

    forge_model(path, edit)
    refused(path)
    assert not target.exists()


def test_python_in_the_learned_state_is_not_executed(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "executed"
    code = f"__import__('os').system('touch {target}')"
    states = json.loads(read(path)["model.json"])["design"]["states"]
    assert states
    for key in states:
        forge_model(
            path, lambda model, key=key: model["design"]["states"].update({code: model["design"]["states"][key]})
        )
        refused(path)
    assert not target.exists()


ARRAYS: dict[str, dict[str, Callable[[np.ndarray], np.ndarray] | None]] = {
    "delta_star NaN": {"delta_star": nan},
    "delta_star negative": {"delta_star": lambda a: -a},
    "delta_star zero": {"delta_star": lambda a: a * 0},
    "delta_star infinite": {"delta_star": lambda a: a / 0.0},
    "gamma_star NaN": {"gamma_star": nan},
    "coefficients NaN": {"coefficients": nan},
    "grand_mean infinite": {"grand_mean": lambda a: a + np.inf},
    "var_pooled NaN": {"var_pooled": nan},
    "var_pooled negative": {"var_pooled": lambda a: -a},
    "var_pooled zero": {"var_pooled": lambda a: a * 0},
    "center NaN": {"center": nan},
    "one feature fewer": {"features": lambda a: a[1:]},
    "one batch fewer": {"gamma_star": lambda a: a[1:]},
    "transposed": {"coefficients": lambda a: a.T},
    "flattened": {"delta_star": lambda a: a.ravel()},
    "one column more": {"coefficients": lambda a: np.vstack([a, a[:1]])},
    "integers": {"gamma_star": lambda a: a.astype(int)},
    "complex": {"gamma_star": lambda a: a.astype(complex)},
    "text": {"gamma_star": lambda a: a.astype(str)},
    "mask of numbers": {"degenerate": lambda a: a.astype(float)},
    "features as numbers": {"features": lambda a: np.arange(a.size)},
    "features as dates": {"features": lambda a: np.zeros(a.size, dtype="datetime64[s]")},
    "features twice": {"features": lambda a: np.full_like(a, a[0])},
    "array gone": {"gamma_star": None},
    "array more": {"something": lambda a: a},
    "records": {"gamma_star": lambda a: np.zeros(a.shape, dtype=[("x", "f8")])},
    "counts negative": {"n_rows": lambda a: -a},
    "scalar": {"n_observed": lambda a: a[0, 0]},
    "pattern negative": {"pattern": lambda a: a - 1},
    "pattern huge": {"pattern": lambda a: a + 2**62},
    "pattern skipped": {"pattern": lambda a: np.where(np.arange(a.size) == 0, 2, a)},
    "site factors too few": {"batch_factor": lambda a: a[1:]},
    "site factors too many": {"batch_factor": lambda a: np.vstack([a, a])},
    "site factors NaN": {"batch_factor": nan},
    "site means another shape": {"batch_center": lambda a: a[:, 1:]},
    "projections too few": {"projected": lambda a: a[1:]},
    "projections gone": {"projected": None},
    "a negative sum of squares": {"unexplained_ss": lambda a: -a},
    "statistics of fewer features": {"batch_mean": lambda a: a[:, 1:]},
}


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize("name", ARRAYS)
def test_another_array(name: str, path: Path) -> None:
    forge_arrays(path, **ARRAYS[name])
    refused(path)


def test_an_array_that_claims_to_be_huge(path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive, archive.open("features.npy", "w") as entry:
        np.lib.format.write_array_header_1_0(entry, {"descr": "<f8", "fortran_order": False, "shape": (10**15,)})
    forge(path, {**read(path), "arrays.npz": out.getvalue()})
    refused(path)


EDITS: dict[str, Callable[[dict[str, Any]], object]] = {
    "option gone": lambda m: m["params"].pop("eb"),
    "option more": lambda m: m["params"].update(mean_model="os.system"),
    "params a list": lambda m: m.update(params=[]),
    "prior unknown": lambda m: m["params"].update(prior="magic"),
    "eb a number": lambda m: m["params"].update(eb=1),
    "batch another": lambda m: m["params"].update(batch="dx"),
    "formula another": lambda m: m["params"].update(formula="~ sex"),
    "formula another in the design": lambda m: m["design"].update(formula="~ sex"),
    "features a number": lambda m: m["params"].update(features=3),
    "id a number": lambda m: m["params"].update(id=3),
    "id a list of numbers": lambda m: m["params"].update(id=[3]),
    "features a list of lists": lambda m: m["params"].update(features=[["area"]]),
    "ref_batch another": lambda m: m["params"].update(ref_batch="Oslo"),
    "reference too large": lambda m: m.update(reference=3),
    "reference negative": lambda m: m.update(reference=-1),
    "reference text": lambda m: m.update(reference="0"),
    "reference a truth value": lambda m: m.update(reference=True),
    "labels twice": lambda m: m["batch"].update(labels=["Lyon", "Lyon", "Turin"]),
    "labels too few": lambda m: m["batch"].update(labels=["Lyon", "Oslo"]),
    "labels a text": lambda m: m["batch"].update(labels="LOT"),
    "labels numbers": lambda m: m["batch"].update(labels=[1, 2, 3]),
    "columns another": lambda m: m["design"].update(columns=["a", "b", "c"]),
    "design more": lambda m: m["design"].update(code="x"),
    "design gone": lambda m: m.pop("design"),
    "state gone": lambda m: m["design"]["states"].clear(),
    "levels gone": lambda m: m["design"].update(factors={}),
    "notes a text": lambda m: m.update(notes="abc"),
    "profile gone": lambda m: m.pop("profile"),
    "profile empty": lambda m: m.update(profile={}),
    "profile of text": lambda m: m["profile"].update(rows="many"),
    "covariates of text": lambda m: m["profile"].update(covariates={"age": "old"}),
    "notes that cannot be printed": lambda m: m.update(notes=["\ud800"]),
    "a number that is none": lambda m: m["profile"].update(rows=float("nan")),
    "unknown key": lambda m: m.update(code="x"),
}


@pytest.mark.parametrize("name", EDITS)
def test_another_model(name: str, path: Path) -> None:
    forge_model(path, EDITS[name])
    refused(path)
