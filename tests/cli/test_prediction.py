"""`pycombat-gam train` and `predict`: what Python gives, from files."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.predictions import FEATURES, outcomes, predictor, times
from typer.testing import CliRunner

import pycombat_gam as pcg
from pycombat_gam.cli import app
from pycombat_gam.tables.files import EXACT_FLOATS, file_sha256

FLAGS = ["--outcome", "dx ~ age", "--batch", "site", "--id", "subject", "--features", "^f[0-9]$", "--level", 0.8]


def command(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def written(path: Path, **options: Any) -> pd.DataFrame:
    return pd.read_csv(path, **EXACT_FLOATS, **options)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table, new rows, and a run on the table."""
    place = tmp_path_factory.mktemp("run")
    outcomes().to_csv(place / "data.csv", index=False)
    outcomes(8, 11, ("Zadar", "Ypres")).drop(columns="dx").to_csv(place / "new.csv", index=False)
    result = command("train", place / "data.csv", *FLAGS, "--no-report", "--out", place / "out")
    assert result.exit_code == 0, result.output
    return place


def test_a_run_has_what_python_gives(run: Path) -> None:
    model = predictor(features="^f[0-9]$").fit(outcomes())
    validation = model.validation
    names = {"left_out", "by_site", "calibration", "overall", "net_benefit", "coverage", "sets"}
    assert {path.name for path in (run / "out").iterdir()} == {
        *(f"{name}.csv" for name in names), "model.pcg", "summary.txt", "run.json",
    }  # fmt: skip
    for name in names:
        made = written(run / "out" / f"{name}.csv", dtype={"subject": str})
        pd.testing.assert_frame_equal(made, getattr(validation, name), check_exact=True, check_dtype=False)
    assert (run / "out" / "summary.txt").read_text() == f"{validation}\n"
    record = json.loads((run / "out" / "run.json").read_text())
    assert record["command"][0] == "train" and record["seeds"] == {"seed": 0}
    assert record["input"]["sha256"] == file_sha256(run / "data.csv")
    for name, digest in record["files"].items():
        assert file_sha256(run / "out" / name) == digest


def test_the_summary_of_a_file_is_its_validation(run: Path) -> None:
    result = command("summary", run / "out" / "model.pcg")
    assert result.exit_code == 0 and result.stdout == (run / "out" / "summary.txt").read_text()
    assert "Guaranteed: sets hold the true dx" in result.stdout


def test_new_rows_are_answered(run: Path) -> None:
    for suffix in (".csv", ".parquet"):
        result = command("predict", run / "out" / "model.pcg", run / "new.csv", "--out", run / f"answers{suffix}")
        assert result.exit_code == 0, result.output
    new = outcomes(8, 11, ("Zadar", "Ypres")).drop(columns="dx")
    expected = pcg.load(run / "out" / "model.pcg").predict(new)  # type: ignore[union-attr]  # a Predictor
    made = written(run / "answers.csv")
    assert made.columns.tolist() == ["subject", "site", *expected.columns]
    assert made["subject"].tolist() == new["subject"].tolist() and made["site"].tolist() == new["site"].tolist()
    assert [tuple(str(members).split("|")) for members in made["set"]] == expected["set"].tolist()
    np.testing.assert_array_equal(made[["p_control", "p_patient"]], expected[["p_control", "p_patient"]])
    columns = pd.read_parquet(run / "answers.parquet")
    assert [tuple(members) for members in columns["set"]] == expected["set"].tolist()


def test_options_of_predict_reach_the_sets(run: Path) -> None:
    labelled = outcomes(8, 11, ("Zadar", "Ypres")).iloc[:8].assign(subject=lambda rows: rows["subject"] + "k")
    labelled.to_csv(run / "labelled.csv", index=False)
    flags = ["--labelled", run / "labelled.csv", "--level", 0.6, "--no-guarantee", "--out", run / "other.csv"]
    result = command("predict", run / "out" / "model.pcg", run / "new.csv", *flags)
    assert result.exit_code == 0, result.output
    made = written(run / "other.csv")
    assert made.loc[made["site"] == "Zadar", "calibration"].eq("labelled rows").all()
    model: Any = pcg.load(run / "out" / "model.pcg").set_params(level=0.6, guarantee=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pcg.PcgWarning)
        expected = model.predict(outcomes(8, 11, ("Zadar", "Ypres")), labelled)
    assert [tuple(str(members).split("|")) for members in made["set"].fillna("")] == [
        members or ("",) for members in expected["set"]
    ]
    assert "use --force to overwrite" in command("predict", run / "out" / "model.pcg", run / "new.csv", *flags).stderr


def test_a_row_without_ids_is_its_line(run: Path) -> None:
    flags = [flag for flag in FLAGS if flag not in ("--id", "subject")]
    table = outcomes().drop(columns="subject")
    table.to_csv(run / "bare.csv", index=False)
    assert command("train", run / "bare.csv", *flags, "--no-report", "--out", run / "bare").exit_code == 0
    assert command("predict", run / "bare" / "model.pcg", run / "new.csv", "--out", run / "lines.csv").exit_code == 0
    made = written(run / "lines.csv")
    assert made["row"].tolist() == list(range(2, len(made) + 2))
    assert written(run / "bare" / "left_out.csv")["row"].tolist() == list(range(2, len(table) + 2))


def test_harmonized_with_a_report(run: Path) -> None:
    flags = ["--harmonize", "~ age", "--sites", 0.7, "--no-per-class", "--seed", 3, "--out", run / "full"]
    result = command("train", run / "data.csv", *FLAGS, *flags)
    assert result.exit_code == 0, result.output
    model: Any = pcg.load(run / "full" / "model.pcg")
    assert (model.sites, model.per_class, model.seed) == (0.7, False, 3)
    assert model.fitted.full.harmonizer.formula == "~ age"
    assert written(run / "full" / "comparison.csv")["measure"].iloc[0] == "AUC"
    page = (run / "full" / "report.md").read_text()
    assert "pycombat-gam" in page and "At these rows" not in page
    assert f"SHA-256 {file_sha256(run / 'data.csv')}" in page
    assert "report.html" in result.stderr and "Guaranteed: at 70 % of" in result.stdout


def test_several_features_cases_and_times(tmp_path: Path) -> None:
    table = outcomes().assign(pair=[f"{i // 2:03d}" for i in range(108)])
    table["dx"] = table.groupby("pair")["dx"].transform("first")
    table.drop(columns="stage").to_csv(tmp_path / "cases.csv", index=False)
    flags = ["--outcome", "dx ~ 1", "--batch", "site", "--case", "pair", "--level", 0.8, "--no-report"]
    flags += ["--features", "f1", "--features", "f2"]
    result = command("train", tmp_path / "cases.csv", *flags, "--out", tmp_path / "cases")
    assert result.exit_code == 0, result.output
    assert pcg.load(tmp_path / "cases" / "model.pcg").features == ["f1", "f2"]
    model = tmp_path / "cases" / "model.pcg"
    assert command("predict", model, tmp_path / "cases.csv", "--out", tmp_path / "cases_out.csv").exit_code == 0
    made = written(tmp_path / "cases_out.csv", dtype={"pair": str})
    assert made["pair"].tolist() == [f"{i:03d}" for i in range(54)]
    assert "|" in made["ranked"].iloc[0]
    times().to_csv(tmp_path / "times.csv", index=False)
    flags = ["--outcome", "Surv(time, dead) ~ age", "--batch", "site", "--id", "subject", "--features", "^f[0-9]$"]
    flags += ["--horizons", 1.5, "--horizons", 3, "--no-report"]
    result = command("train", tmp_path / "times.csv", *flags, "--out", tmp_path / "times")
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "times" / "coverage.csv").exists()
    model = tmp_path / "times" / "model.pcg"
    assert command("predict", model, tmp_path / "times.csv", "--out", tmp_path / "risks.csv").exit_code == 0
    assert {"risk_1.5", "risk_3"} <= set(written(tmp_path / "risks.csv").columns)


def test_a_taxonomy_is_a_table_of_two_columns(tmp_path: Path) -> None:
    outcomes().to_csv(tmp_path / "data.csv", index=False)
    pairs = [("early", "ill"), ("late", "ill"), ("ill", "all"), ("none", "all")]
    pd.DataFrame(pairs, columns=["child", "parent"]).to_csv(tmp_path / "tree.csv", index=False)
    flags = ["--outcome", "stage ~ age", *FLAGS[2:], "--taxonomy", tmp_path / "tree.csv", "--max-size", 40]
    result = command("train", tmp_path / "data.csv", *flags, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    model: Any = pcg.load(tmp_path / "out" / "model.pcg")
    assert model.taxonomy.max_size == 40 and model.taxonomy.parents == dict(pairs)
    page = (tmp_path / "out" / "report.md").read_text()
    assert "Classes are leaves of a taxonomy" in page and "AUC of ill at sites left out" in page
    new = tmp_path / "data.csv"
    assert command("predict", tmp_path / "out" / "model.pcg", new, "--out", tmp_path / "nodes.csv").exit_code == 0
    assert set(written(tmp_path / "nodes.csv")["node"]) <= {"all", "ill", "none", "early", "late"}
    pd.DataFrame(pairs, columns=["class", "group"]).to_csv(tmp_path / "wrong.csv", index=False)
    flags[flags.index(tmp_path / "tree.csv")] = tmp_path / "wrong.csv"
    refused = command("train", tmp_path / "data.csv", *flags, "--out", tmp_path / "none")
    assert refused.exit_code == 2 and "has no column child: a taxonomy has two, child and parent" in refused.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--outcome", "~ age"], "names no outcome"),
        (["--outcome", "dxx ~ age"], "dxx"),
        (["--harmonize", "~ dx"], "dx is what is predicted: ComBat would see it"),
        (["--level", "1.5"], "level"),
        (["--sites", "2"], "--sites 2.0: give the share of new sites at which sets hold, such as 0.9; leave it out"),
        (["--max-size", "5"], "--max-size is of the tree that --taxonomy names"),
        (["--horizons", "365"], "horizons are for Surv(time, event)"),
    ],
)
def test_what_cannot_be_done_ends_in_one_line(run: Path, flags: list[str], message: str) -> None:
    base = [str(flag) for flag in FLAGS]
    for name in flags[::2]:
        if name in base:
            del base[base.index(name) : base.index(name) + 2]
    result = command("train", run / "data.csv", *base, *flags, "--out", run / "none")
    assert result.exit_code == 2
    assert message in result.stderr and result.stderr.count("\n") == 1
    assert not (run / "none").exists()


def test_models_of_another_kind_are_refused_with_a_remedy(run: Path) -> None:
    model = run / "out" / "model.pcg"
    for call in (["apply", model, run / "new.csv", "--out", run / "x.csv"], ["test", model]):
        result = command(*call)
        assert result.exit_code == 2 and result.stderr.count("\n") == 1
        assert "is a predictor" in result.stderr
    assert "use predict, or summary" in command("apply", model, run / "new.csv", "--out", run / "x.csv").stderr
    pcg.ComBat("~ age", "site", features=list(FEATURES)).fit(outcomes()).save(run / "combat.pcg")
    result = command("predict", run / "combat.pcg", run / "new.csv", "--out", run / "x.csv")
    assert result.exit_code == 2 and "is a ComBat: use apply, or train a predictor" in result.stderr
    assert not (run / "x.csv").exists()


def test_an_earlier_run_stays(run: Path) -> None:
    result = command("train", run / "data.csv", *FLAGS, "--no-report", "--out", run / "out")
    assert result.exit_code == 2 and "use --force to overwrite" in result.stderr
