"""`pycombat-gam flow`, and what apply and summary do with a flow."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.study import study
from typer.testing import CliRunner

import pycombat_gam as pcg
from pycombat_gam.cli import app, main

OURS = {"harmonized.csv", "model.pcg", "summary.txt", "training.csv", "run.json"}
ENDS = {"interval_lower.csv", "interval_upper.csv"}
REGEX = "^(thick|area|vol|depth)$"
BASE = ["--batch", "site", "--id", "subject", "--features", REGEX, "--formula", "~ age + sex"]
FAST = [*BASE, "--variant", "residual", "--epochs", "2"]


def instead(option: str, value: str) -> list[str]:
    """FAST with another value of one of its options, which may be given once."""
    return [value if before == option else word for before, word in pairwise(["", *FAST])]


SOON = instead("--formula", "~ sex")
"""Where the model does not matter: the flow of a number such as age takes most of the time of FAST."""


def run(*arguments: object) -> Any:
    """Run in this process, without the report that `test_evidence` has; anything but a clean end fails the test."""
    without = ["--no-report"] if arguments[0] == "flow" else []
    result = CliRunner().invoke(app, [*(str(argument) for argument in arguments), *without])
    assert result.exit_code == 0, result.output
    return result


def refused(*arguments: object) -> str:
    """Run, and return the one line that says why not."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if not line.startswith("Note: ")]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("Error: ")
    return lines[0]


def ours(**options: Any) -> pcg.FlowSCM:
    settings: dict[str, Any] = {"flow_options": {"variant": "residual"}, "training": {"max_epochs": 2}, **options}
    model = pcg.FlowSCM("~ age + sex", batch="site", id=["subject"], features=REGEX, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pcg.PcgWarning)
        return model.fit(study(), progress=False)


plain = cache(ours)  # what FAST fits, for tests that only read it


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    study().to_csv(tmp_path / "data.csv", index=False)
    return tmp_path / "data.csv"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that tests only read."""
    folder = tmp_path_factory.mktemp("done")
    study().to_csv(folder / "data.csv", index=False)
    run("flow", folder / "data.csv", *FAST, "--out", folder / "out")
    return folder / "out"


# flow


def test_a_run_gives_what_python_gives(tmp_path: Path, out: Path) -> None:
    """The packaged table, all by default but the number of epochs."""
    table = pcg.datasets.load_multisite()
    table.to_csv(tmp_path / "data.csv", index=False)
    given = ["--batch", "site", "--id", "subject", "--features", "^lh_s.*_thickness$", "--formula", "~ s(age) + sex"]
    result = run("flow", tmp_path / "data.csv", *given, "--epochs", "2", "--to", "Bergen", "--out", out)
    assert names(out) == OURS
    assert result.stdout == ""
    for name in OURS:
        assert str(out / name) in result.stderr
    assert "403 rows at 8 sites, to Bergen." in result.stderr
    model = pcg.FlowSCM(
        "~ s(age) + sex", batch="site", id=["subject"], features="^lh_s.*_thickness$", training={"max_epochs": 2}
    )
    expected = model.fit(table, progress=False).transform(table, to="Bergen")
    pd.testing.assert_frame_equal(pd.read_csv(out / "harmonized.csv"), expected, check_exact=True)
    saved = pcg.load(out / "model.pcg")
    assert isinstance(saved, pcg.FlowSCM)
    pd.testing.assert_frame_equal(saved.transform(table, to="Bergen"), expected, check_exact=True)
    assert saved.get_params() == model.get_params()
    assert (out / "summary.txt").read_text() == f"{model.summary()}\n"
    trained = pd.read_csv(out / "training.csv")
    pd.testing.assert_frame_equal(trained, model.history_.drop(columns="seconds"), check_exact=True)


OPTIONS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "average": ([], {}),
    "reference": (["--ref", "Oslo"], {"ref_batch": "Oslo"}),
    "variant": (["--variant", "whole-shape"], {"flow_options": {"variant": "whole-shape"}}),
    "base": (["--base", "normal"], {"base": "normal"}),
    "family": (["--flow", "coupling", "--seed", "3"], {"flow": "coupling", "flow_options": None, "seed": 3}),
    "device": (["--device", "cpu"], {"device": "cpu"}),
}


@pytest.mark.filterwarnings("ignore:age is outside the range of site:pycombat_gam.errors.PcgWarning")
@pytest.mark.parametrize("name", OPTIONS)
def test_options_reach_the_fit(name: str, data: Path, out: Path) -> None:
    flags, options = OPTIONS[name]
    variant = [] if {"--variant", "--flow"} & set(flags) else ["--variant", "residual"]
    run("flow", data, *BASE, *variant, *flags, "--epochs", "2", "--out", out)
    model = ours(**options)
    pd.testing.assert_frame_equal(pd.read_csv(out / "harmonized.csv"), model.transform(study()), check_exact=True)
    assert pcg.load(out / "model.pcg").get_params() == model.get_params()


def test_intervals(data: Path, out: Path) -> None:
    run("flow", data, *FAST, "--members", "3", "--interval", "0.9", "--to", "Oslo", "--out", out)
    assert names(out) == OURS | ENDS
    found = ours(n_members=3).interval(study(), to="Oslo", level=0.9)
    for end, expected in (("lower", found.lower), ("upper", found.upper)):
        table = pd.read_csv(out / f"interval_{end}.csv")
        assert list(table.columns) == list(study().columns)
        assert table["subject"].tolist() == study()["subject"].tolist()
        pd.testing.assert_frame_equal(table[list(expected.columns)], expected, check_exact=True)
    assert "interval_lower.csv" in refused("flow", data, *FAST, "--out", out)
    result = run("flow", data, *SOON, "--out", out, "--force")
    assert "interval_lower.csv, interval_upper.csv" in result.stderr
    assert "of an earlier run" in result.stderr


def test_two_runs_give_the_same_bytes(data: Path, tmp_path: Path) -> None:
    for kind in (["--variant", "residual"], ["--flow", "autoregressive"]):
        given = [*BASE, *kind, "--epochs", "2", "--members", "2", "--interval", "0.5", "--force"]
        for name in ("a", "b"):
            run("flow", data, *given, "--seed", "7", "--out", tmp_path / name)
        for name in OURS | ENDS:
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    for seed in ("7", "8"):
        run("flow", data, *SOON, "--members", "2", "--interval", "0.5", "--seed", seed, "--out", tmp_path / seed)
    seven, eight = ((tmp_path / seed / "interval_lower.csv").read_bytes() for seed in ("7", "8"))
    assert seven != eight


def test_run_record(data: Path, out: Path) -> None:
    import torch
    import zuko

    run("flow", data, *SOON, "--seed", "5", "--out", out)
    record = json.loads((out / "run.json").read_text())
    assert record["command"][0] == "flow"
    assert record["seeds"] == {"seed": 5}
    assert record["versions"]["torch"] == torch.__version__
    assert record["versions"]["zuko"] == zuko.__version__
    assert set(record["files"]) == OURS - {"run.json"}


def test_text_stays_as_it_stands(tmp_path: Path, out: Path) -> None:
    table = study().assign(subject=[f"{i:03d}" for i in range(21)], note=["1.50", "NA", "", *["x"] * 18])
    table.to_csv(tmp_path / "data.tsv", index=False, sep="\t")
    run("flow", tmp_path / "data.tsv", *SOON, "--out", out)
    before, after = (
        pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
        for path in (tmp_path / "data.tsv", out / "harmonized.tsv")
    )
    pd.testing.assert_frame_equal(after[["subject", "note", "age"]], before[["subject", "note", "age"]])


def test_parquet_in_parquet_out(tmp_path: Path, out: Path) -> None:
    study().to_parquet(tmp_path / "data.parquet")
    run("flow", tmp_path / "data.parquet", *FAST, "--out", out)
    expected = plain().transform(study())
    pd.testing.assert_frame_equal(pd.read_parquet(out / "harmonized.parquet"), expected, check_exact=True)


@pytest.mark.parametrize("present", sorted(OURS))
def test_overwriting_takes_force(present: str, data: Path, out: Path) -> None:
    out.mkdir()
    (out / present).write_text("old")
    (out / "notes.txt").write_text("mine")
    said = refused("flow", data, *SOON, "--out", out)
    assert present in said and "--force" in said
    assert (out / present).read_text() == "old"
    run("flow", data, *SOON, "--out", out, "--force")
    assert names(out) == OURS | {"notes.txt"}
    assert (out / present).read_bytes() != b"old"


def test_checkpoint_and_resume(data: Path, out: Path, tmp_path: Path) -> None:
    given = [*BASE, "--flow", "affine", "--epochs", "12", "--checkpoint", tmp_path / "on.pcg", "--out", out]
    run("flow", data, *given)
    first = (out / "harmonized.csv").read_bytes()
    assert "--resume goes on from it" in refused("flow", data, *given[:-1], tmp_path / "other")
    run("flow", data, *given, "--resume", "--force")
    assert (out / "harmonized.csv").read_bytes() == first
    said = refused("flow", data, *given, "--seed", "2", "--resume", "--force")
    assert "of another training" in said and "leave --resume out" in said


# Bad input

BAD: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "no such file": (["none.csv", *FAST], ("there is no file 'none.csv'",)),
    "unknown batch": (["data.csv", "--batch", "sit"], ("did you mean 'site'",)),
    "unknown target": (["data.csv", *FAST, "--to", "oslo"], ("--to 'oslo'", "did you mean 'Oslo'")),
    "unknown reference": (["data.csv", *FAST, "--ref", "oslo"], ("--ref 'oslo'", "did you mean 'Oslo'")),
    "unknown flow": (["data.csv", *FAST, "--flow", "magic"], ("--flow", "'magic'")),
    "unknown variant": (["data.csv", *instead("--variant", "magic")], ("--variant", "'magic'")),
    "unknown base": (["data.csv", *FAST, "--base", "cauchy"], ("--base", "'cauchy'")),
    "a variant of another flow": (["data.csv", *FAST, "--flow", "affine"], ("'affine' has no 'variant'",)),
    "formula misspelled": (["data.csv", *instead("--formula", "~ aeg")], ("mean 'age'",)),
    "formula runs code": (["data.csv", *instead("--formula", "~ open('x', 'w')")], ("open",)),
    "batch in the formula": (["data.csv", *instead("--formula", "~ site")], ("'site' is in the formula",)),
    "id misspelled": (["data.csv", *FAST, "--id", "visit"], ("id column 'visit'",)),
    "regex finds nothing": (["data.csv", *FAST, "--features", "xyz"], ("'xyz'",)),
    "interval without members": (["data.csv", *FAST, "--interval", "0.9"], ("--interval", "--members 20")),
    "interval of no level": (["data.csv", *FAST, "--interval", "95", "--members", "3"], ("--interval 95", "0.95")),
    "no members": (["data.csv", *FAST, "--members", "0"], ("--members",)),
    "no epochs": (["data.csv", *instead("--epochs", "0")], ("--epochs",)),
    "seed negative": (["data.csv", *FAST, "--seed", "-1"], ("--seed",)),
    "no such device": (["data.csv", *FAST, "--device", "abacus"], ("--device 'abacus'",)),
    "resume nothing": (["data.csv", *FAST, "--resume"], ("--checkpoint",)),
    "checkpoint nowhere": (["data.csv", *FAST, "--checkpoint", "none/on.pcg"], ("none/on.pcg",)),
    "checkpoint there": (["data.csv", *FAST, "--checkpoint", "data.csv"], ("'data.csv' exists", "--resume")),
    "holes": (["holes.csv", *FAST], ("'area'", "missing")),
    "out is a file": (["data.csv", *FAST, "--out", "data.csv"], ("'data.csv' is a file",)),
    "one site": (["one.csv", *FAST], ("'Lyon'", "at least two")),
    "a spreadsheet": (["data.xlsx", *FAST], (".csv, .tsv, .txt, .csv.gz",)),
}


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], data: Path) -> Callable[..., str]:
    """Run the program's `main` beside good data; return the one line it ends with."""
    monkeypatch.chdir(data.parent)

    def call(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["pycombat-gam", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        stdout, stderr = capsys.readouterr()
        lines = [line for line in stderr.splitlines() if line.strip()]
        assert (ended.value.code, stdout, len(lines)) == (2, "", 1), stderr
        assert lines[0].startswith("Error: ")
        return lines[0]

    return call


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str, command: Callable[..., str]) -> None:
    table = study()
    table[table["site"] == "Lyon"].to_csv("one.csv", index=False)
    table.loc[3, "area"] = np.nan
    table.to_csv("holes.csv", index=False)
    before = {path: path.read_bytes() for path in Path().iterdir()}
    arguments, says = BAD[name]
    said = command("flow", *arguments, *([] if "--out" in arguments else ["--out", "out"]))
    for words in says:
        assert words in said
    assert {path: path.read_bytes() for path in Path().iterdir()} == before


# apply, summary


def test_apply_takes_flows(done: Path, tmp_path: Path) -> None:
    new = study(1).iloc[[4, 17]].sample(frac=1, axis=1, random_state=0)
    new.to_csv(tmp_path / "new.csv", index=False)
    for flags, to in (([], None), (["--to", "Turin"], "Turin")):
        run("apply", done / "model.pcg", tmp_path / "new.csv", *flags, "--out", tmp_path / "x.csv", "--force")
        expected = plain().transform(new, to=to).reset_index(drop=True)
        pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "x.csv"), expected, check_exact=True)


def test_apply_gives_the_harmonized_table(data: Path, done: Path, tmp_path: Path) -> None:
    run("apply", done / "model.pcg", data, "--out", tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_bytes() == (done / "harmonized.csv").read_bytes()


def test_apply_refuses_what_flows_do_not_have(data: Path, done: Path, tmp_path: Path) -> None:
    common = ["apply", done / "model.pcg", data, "--out", tmp_path / "x.csv"]
    assert "--on-unseen is for ComBat" in refused(*common, "--on-unseen", "estimate")
    assert "--missing is for ComBat" in refused(*common, "--missing", "omit")
    assert "--to 'oslo'" in refused(*common, "--to", "oslo")
    pcg.ComBat("~ age", batch="site", id="subject", features=REGEX).fit(study()).save(tmp_path / "combat.pcg")
    common[1] = tmp_path / "combat.pcg"
    assert "--to is for flows" in refused(*common, "--to", "Oslo")
    assert "--adapt is for flows" in refused(*common, "--adapt", tmp_path / "wider.pcg")
    assert not (tmp_path / "x.csv").exists()


@pytest.mark.filterwarnings("ignore:age is outside the range:pycombat_gam.errors.PcgWarning")
def test_apply_adapts_to_a_new_site(data: Path, done: Path, tmp_path: Path) -> None:
    rows = study(1).assign(site="Bonn").iloc[:9]
    rows.to_csv(tmp_path / "bonn.csv", index=False)
    common = ["apply", done / "model.pcg", tmp_path / "bonn.csv", "--out", tmp_path / "x.csv"]
    said = refused(*common)
    assert "Bonn was not in the fit" in said and "--adapt" in said
    result = run(*common, "--adapt", tmp_path / "wider.pcg")
    assert "Note: site 'Bonn' was added from its 9 rows" in result.stderr
    with pytest.warns(pcg.PcgWarning, match="Bonn"):
        expected = plain().adapt(rows).transform(rows)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "x.csv"), expected, check_exact=True)
    run("apply", tmp_path / "wider.pcg", tmp_path / "bonn.csv", "--out", tmp_path / "y.csv")
    assert (tmp_path / "y.csv").read_bytes() == (tmp_path / "x.csv").read_bytes()
    assert "--force" in refused(*common[:-1], tmp_path / "z.csv", "--adapt", tmp_path / "wider.pcg")
    common[2] = data
    assert "one site that was not in the fit" in refused(*common, "--adapt", tmp_path / "more.pcg", "--force")


def test_summary_prints_the_summary(done: Path) -> None:
    result = run("summary", done / "model.pcg")
    assert (result.stdout, result.stderr) == ((done / "summary.txt").read_text(), "")


def test_ctrl_c_ends_a_training_in_one_line(
    data: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pcg.FlowSCM, "fit", interrupted)
    monkeypatch.setattr(sys, "argv", ["pycombat-gam", "flow", str(data), *FAST, "--out", str(out)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert [line for line in capsys.readouterr().err.splitlines() if line] == ["Stopped."]
    assert not out.exists()


# Without torch

WITHOUT_TORCH = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] == 'torch': raise ModuleNotFoundError('torch is hidden')
sys.meta_path.insert(0, Hidden())
from pycombat_gam.cli import main
main()
"""


def test_rows_beyond_the_fit_are_told(done: Path, data: Path, tmp_path: Path) -> None:
    """On stderr, as every note; the commands run all the same."""
    study().assign(age=99.0).to_csv(tmp_path / "old.csv", index=False)
    said = run("apply", done / "model.pcg", tmp_path / "old.csv", "--out", tmp_path / "o.csv").stderr
    assert "Note: age is outside the range of the fit (20.2 to 76.1) in 21 rows: extrapolated" in said
    assert "outside the range" not in run("apply", done / "model.pcg", data, "--out", tmp_path / "p.csv").stderr
    children = study().assign(age=lambda t: t["age"].where(t["site"] != "Lyon", 9.0 + t["age"] / 20))
    children.to_csv(tmp_path / "c.csv", index=False)
    given = [*BASE, "--variant", "whole", "--epochs", "2", "--to", "Lyon", "--out", tmp_path / "out"]
    said = run("flow", tmp_path / "c.csv", *given).stderr
    assert "Note: age is outside the range of site 'Lyon', " in said
    assert "(13 rows): the site's effect is extrapolated there" in said


def test_without_torch(done: Path, data: Path, tmp_path: Path) -> None:
    """The flow says what to install; everything else works."""

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        given = [sys.executable, "-c", WITHOUT_TORCH, *map(str, arguments)]
        return subprocess.run(given, capture_output=True, text=True, check=False)

    for arguments in (["flow", data, *FAST, "--out", tmp_path / "o"], ["summary", done / "model.pcg"]):
        said = call(*arguments)
        assert (said.returncode, said.stdout, said.stderr.count("\n")) == (2, "", 1), said.stderr
        assert said.stderr.startswith("Error: ")
        assert "the flow needs torch: pip install 'torch>=2.2' 'zuko>=1.2'" in said.stderr
    assert not (tmp_path / "o").exists()
    harmonized = call("harmonize", data, *BASE, "--out", tmp_path / "o")
    assert harmonized.returncode == 0, harmonized.stderr
