"""The command line: what it reads, what it writes, and what it leaves alone."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.study import FEATURES, study
from typer.testing import CliRunner

import pycombat_gam as pcg
from pycombat_gam.cli import app

OURS = {"harmonized.csv", "model.pcg", "summary.txt", "effects.csv", "run.json"}


def run(*arguments: object) -> Any:
    """Run in this process, without the report that `test_evidence` has; anything but a clean end fails the test."""
    without = ["--no-report"] if arguments[0] == "harmonize" else []
    result = CliRunner().invoke(app, [*(str(argument) for argument in arguments), *without])
    assert result.exit_code == 0, result.output
    return result


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def cells(path: Path, columns: Iterable[str], separator: str = ",") -> list[list[str]]:
    """The cells of some columns as text."""
    with path.open(encoding="utf-8", newline="") as stream:
        return [[row[name] for name in columns] for row in csv.DictReader(stream, delimiter=separator)]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    study().to_csv(tmp_path / "data.csv", index=False)
    return tmp_path / "data.csv"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


REGEX = "^(thick|area|vol|depth)$"
BASE = ["--batch", "site", "--id", "subject", "--features", REGEX, "--formula", "~ age + sex"]


def ours(**options: Any) -> pcg.ComBat:
    return pcg.ComBat("~ age + sex", batch="site", id="subject", features=FEATURES, **options)


# gzip


def test_a_gzipped_table_comes_back_gzipped(data: Path, out: Path, tmp_path: Path) -> None:
    packed = tmp_path / "data.csv.gz"
    packed.write_bytes(gzip.compress(data.read_bytes()))
    run("harmonize", data, *BASE, "--out", out)
    for again in ("one", "two"):
        run("harmonize", packed, *BASE, "--out", tmp_path / again)
    found = (tmp_path / "one" / "harmonized.csv.gz").read_bytes()
    assert gzip.decompress(found) == (out / "harmonized.csv").read_bytes()
    assert found == (tmp_path / "two" / "harmonized.csv.gz").read_bytes()
    run("apply", out / "model.pcg", packed, "--out", tmp_path / "applied.csv")
    assert (tmp_path / "applied.csv").read_bytes() == (out / "harmonized.csv").read_bytes()


# harmonize


def test_harmonize_gives_what_python_gives(data: Path, out: Path) -> None:
    result = run("harmonize", data, *BASE, "--out", out)
    assert names(out) == OURS
    expected = ours().fit_transform(study())
    pd.testing.assert_frame_equal(pd.read_csv(out / "harmonized.csv"), expected, check_exact=True)
    model = pcg.load(out / "model.pcg")
    pd.testing.assert_frame_equal(model.transform(study()), expected, check_exact=True)
    assert (out / "summary.txt").read_text() == f"{model.summary()}\n"
    for name in OURS:
        assert str(out / name) in result.stderr
    assert result.stdout == ""


OPTIONS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "ref": (["--ref", "Oslo"], {"ref_batch": "Oslo"}),
    "no eb": (["--no-eb"], {"eb": False}),
    "nonparametric": (["--prior", "nonparametric"], {"prior": "nonparametric"}),
    "mean only": (["--mean-only"], {"mean_only": True}),
    "unseen": (["--on-unseen", "estimate"], {"on_unseen": "estimate"}),
    "all": (["--ref", "Lyon", "--no-eb", "--mean-only"], {"ref_batch": "Lyon", "eb": False, "mean_only": True}),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_reach_the_fit(name: str, data: Path, out: Path) -> None:
    flags, options = OPTIONS[name]
    run("harmonize", data, *BASE, *flags, "--out", out)
    expected = ours(**options).fit_transform(study())
    pd.testing.assert_frame_equal(pd.read_csv(out / "harmonized.csv"), expected, check_exact=True)
    saved = pcg.load(out / "model.pcg").get_params()
    assert {option: saved[option] for option in options} == options


def test_posterior_means_are_drawn_with_the_seed(data: Path, out: Path) -> None:
    run("harmonize", data, *BASE, "--prior", "bayes", "--seed", "3", "--out", out)
    with pytest.warns(pcg.PcgWarning, match="priors rest on 4 features"):
        expected = ours(prior="bayes", seed=3).fit_transform(study())
    pd.testing.assert_frame_equal(pd.read_csv(out / "harmonized.csv"), expected, check_exact=True)
    saved = pcg.load(out / "model.pcg").get_params()
    assert (saved["prior"], saved["seed"]) == ("bayes", 3)
    assert json.loads((out / "run.json").read_text())["seeds"] == {"seed": 3}


def test_missing_cells_stay_missing(tmp_path: Path, out: Path) -> None:
    table = study()
    table.loc[[2, 9], "area"] = np.nan
    table.to_csv(tmp_path / "holes.csv", index=False, na_rep="NA")
    run("harmonize", tmp_path / "holes.csv", *BASE, "--missing", "omit", "--out", out)
    harmonized = pd.read_csv(out / "harmonized.csv")
    pd.testing.assert_frame_equal(harmonized, ours(missing="omit").fit_transform(table), check_exact=True)
    assert harmonized["area"].isna().sum() == 2


def test_features_by_default_are_the_numeric_columns_left(tmp_path: Path, out: Path) -> None:
    study().drop(columns="dx").to_csv(tmp_path / "data.csv", index=False)
    run("harmonize", tmp_path / "data.csv", "--batch", "site", "--formula", "~ age + sex", "--out", out)
    assert pcg.load(out / "model.pcg").get_feature_names_out().tolist() == FEATURES


def test_notes_go_to_stderr_and_into_the_summary(tmp_path: Path, out: Path) -> None:
    study().assign(area=1.0).to_csv(tmp_path / "flat.csv", index=False)
    result = run("harmonize", tmp_path / "flat.csv", *BASE, "--out", out)
    assert "Note: constant, passed through untouched: area" in result.stderr
    assert "constant, passed through untouched: area" in (out / "summary.txt").read_text()


# Text stays as it stands

AWKWARD_TEXT = {
    "subject": [f"{i:03d}" for i in range(7, 28)],
    "zip code": [f"0{i}" for i in range(21)],
    "note": ['he said "no"', "a, b", "", "NA", " padded ", "1.50", "1e3", "TRUE", "None", "ü", "=1+1", *["x"] * 10],
    "visit": ["2020-01-05", "", *["05/01/2020"] * 19],
    "long": ["0.1000000000000000055511151231257827", *["12345678901234567890"] * 20],
    "gaps": ["", "3", *[f"{i}" for i in range(19)]],
}


@pytest.mark.parametrize(("suffix", "separator"), [(".csv", ","), (".tsv", "\t"), (".txt", "\t")])
def test_other_columns_come_back_character_by_character(suffix: str, separator: str, tmp_path: Path, out: Path) -> None:
    table = study().assign(**AWKWARD_TEXT)
    table["site"] = table["site"].map({"Lyon": "01", "Oslo": "1", "Turin": "2.0"})
    table = table[
        ["area", "note", "site", "thick", "zip code", "subject", "visit", "vol", "long", "age", "sex", "gaps", "depth"]
    ]
    path = tmp_path / f"data{suffix}"
    table.to_csv(path, index=False, sep=separator)
    run("harmonize", path, *BASE, "--out", out)
    place = out / f"harmonized{suffix}"
    with place.open(encoding="utf-8") as stream:
        assert next(csv.reader(stream, delimiter=separator)) == list(table.columns)
    others = [name for name in table.columns if name not in FEATURES]
    assert cells(place, others, separator) == cells(path, others, separator)
    assert cells(place, ["subject"], separator)[0] == ["007"]
    assert pcg.load(out / "model.pcg").estimates.gamma_star.index.tolist() == ["01", "1", "2"]
    new = tmp_path / f"new{suffix}"
    run("apply", out / "model.pcg", path, "--out", new)
    assert new.read_bytes() == place.read_bytes()


def test_numbers_keep_all_their_digits(data: Path, out: Path) -> None:
    run("harmonize", data, *BASE, "--ref", "Oslo", "--out", out)
    rows = [i for i, (site,) in enumerate(cells(data, ["site"])) if site == "Oslo"]
    before, after = cells(data, FEATURES), cells(out / "harmonized.csv", FEATURES)
    assert [after[i] for i in rows] == [before[i] for i in rows]


def test_a_byte_order_mark_crlf_and_blank_lines_are_read(tmp_path: Path, out: Path) -> None:
    text = study().to_csv(index=False, lineterminator="\r\n")
    (tmp_path / "excel.csv").write_bytes(b"\xef\xbb\xbf" + text.encode() + b"\r\n\r\n")
    run("harmonize", tmp_path / "excel.csv", *BASE, "--out", out)
    expected = ours().fit_transform(study())
    pd.testing.assert_frame_equal(pd.read_csv(out / "harmonized.csv"), expected, check_exact=True)


def test_none_is_a_group_not_a_gap(tmp_path: Path, out: Path) -> None:
    """pandas reads "None" as missing; for a diagnosis it is a level."""
    study().assign(dx=np.resize(["None", "AD"], 21)).to_csv(tmp_path / "data.csv", index=False)
    run("harmonize", tmp_path / "data.csv", *BASE[:-1], "~ dx", "--out", out)
    assert pcg.load(out / "model.pcg").estimates.coefficients.index.tolist() == ["dxNone"]


def test_parquet_in_parquet_out(tmp_path: Path, out: Path) -> None:
    table = study().assign(
        subject=[f"{i:03d}" for i in range(21)],
        scan=pd.date_range("2020-01-01", periods=21),
        visits=np.arange(21, dtype=np.int16),
    )
    table = table.astype({"area": np.float32, "sex": "category"})
    table.to_parquet(tmp_path / "data.parquet")
    run("harmonize", tmp_path / "data.parquet", *BASE, "--out", out)
    expected = ours().fit_transform(table)
    pd.testing.assert_frame_equal(pd.read_parquet(out / "harmonized.parquet"), expected, check_exact=True)
    assert expected["area"].dtype == np.float32
    run("apply", out / "model.pcg", tmp_path / "data.parquet", "--out", tmp_path / "new.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "new.parquet"), expected, check_exact=True)


def test_formats_convert_on_apply(data: Path, tmp_path: Path, out: Path) -> None:
    run("harmonize", data, *BASE, "--out", out)
    expected = ours().fit_transform(study())
    for suffix, separator in ((".tsv", "\t"), (".csv", ",")):
        run("apply", out / "model.pcg", data, "--out", tmp_path / f"new{suffix}")
        pd.testing.assert_frame_equal(pd.read_csv(tmp_path / f"new{suffix}", sep=separator), expected, check_exact=True)
    run("apply", out / "model.pcg", data, "--out", tmp_path / "new.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "new.parquet"), expected, check_exact=True)
    run("apply", out / "model.pcg", tmp_path / "new.parquet", "--out", tmp_path / "back.csv")
    assert list(pd.read_csv(tmp_path / "back.csv").columns) == list(expected.columns)


# Where files go


def test_an_existing_folder_is_fine_and_others_in_it_are_left_alone(data: Path, out: Path) -> None:
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    (out / "harmonized.tsv").write_text("mine too")
    run("harmonize", data, *BASE, "--out", out)
    assert names(out) == {*OURS, "notes.txt", "harmonized.tsv"}
    assert (out / "notes.txt").read_text() == "mine"
    assert (out / "harmonized.tsv").read_text() == "mine too"


def test_nested_folders_are_created(data: Path, out: Path) -> None:
    run("harmonize", data, *BASE, "--out", out / "a" / "b")
    assert names(out / "a" / "b") == OURS


@pytest.mark.parametrize("present", sorted(OURS))
def test_overwriting_takes_force(present: str, data: Path, out: Path) -> None:
    out.mkdir()
    (out / present).write_text("old")
    result = CliRunner().invoke(app, ["harmonize", str(data), *BASE, "--out", str(out)])
    assert result.exit_code == 2
    assert present in result.stderr
    assert "--force" in result.stderr
    assert names(out) == {present}
    assert (out / present).read_text() == "old"
    run("harmonize", data, *BASE, "--out", out, "--force")
    assert names(out) == OURS
    assert (out / present).read_bytes() != b"old"


def test_apply_overwrites_with_force_only(data: Path, tmp_path: Path, out: Path) -> None:
    run("harmonize", data, *BASE, "--out", out)
    new = tmp_path / "new.csv"
    new.write_text("old")
    result = CliRunner().invoke(app, ["apply", str(out / "model.pcg"), str(data), "--out", str(new)])
    assert (result.exit_code, new.read_text()) == (2, "old")
    assert "--force" in result.stderr
    run("apply", out / "model.pcg", data, "--out", new, "--force")
    assert new.read_bytes() == (out / "harmonized.csv").read_bytes()


def test_files_have_the_users_permissions(data: Path, out: Path) -> None:
    run("harmonize", data, *BASE, "--out", out)
    plain = out / "plain"
    plain.write_text("x")
    assert {(out / name).stat().st_mode for name in OURS} == {plain.stat().st_mode}


def test_two_runs_give_the_same_bytes(data: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        run("harmonize", data, *BASE, "--out", tmp_path / name)
    for name in OURS:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


# apply, summary, demo


def test_apply_to_new_rows(data: Path, tmp_path: Path, out: Path) -> None:
    run("harmonize", data, *BASE, "--out", out)
    expected = ours().fit(study())
    new = study(1).iloc[[4, 17]].sample(frac=1, axis=1, random_state=0)
    new.to_csv(tmp_path / "new.csv", index=False)
    run("apply", out / "model.pcg", tmp_path / "new.csv", "--out", tmp_path / "done.csv")
    done = pd.read_csv(tmp_path / "done.csv")
    pd.testing.assert_frame_equal(done, expected.transform(new).reset_index(drop=True), check_exact=True)


def test_apply_estimates_new_sites_when_the_model_says_so(data: Path, tmp_path: Path, out: Path) -> None:
    run("harmonize", data, *BASE, "--on-unseen", "estimate", "--out", out)
    study(1).replace({"site": {"Oslo": "Bonn"}}).to_csv(tmp_path / "new.csv", index=False)
    result = run("apply", out / "model.pcg", tmp_path / "new.csv", "--out", tmp_path / "done.csv")
    assert "Note: batch 'Bonn' was not in the fit: estimated from its 7 rows" in result.stderr


def test_summary_prints_the_summary(data: Path, out: Path) -> None:
    run("harmonize", data, *BASE, "--out", out)
    result = run("summary", out / "model.pcg")
    assert result.stdout == (out / "summary.txt").read_text()
    assert result.stderr == ""


def test_run_record(data: Path, out: Path) -> None:
    run("harmonize", data, *BASE, "--out", out)
    record = json.loads((out / "run.json").read_text())
    assert record["input"] == {"file": str(data), "sha256": sha256(data)}
    assert record["files"] == {name: sha256(out / name) for name in OURS - {"run.json"}}
    assert record["versions"]["pycombat-gam"] == pcg.__version__
    assert record["versions"]["numpy"] == np.__version__
    assert record["command"][0] == "harmonize"
    assert "seeds" in record


def test_demo(out: Path) -> None:
    result = run("demo", "--out", out)
    assert names(out) == OURS | {"report.html", "report.md"}
    assert "403 subjects at 8 sites" in result.stderr
    table = pcg.datasets.load_multisite()
    harmonized = pd.read_csv(out / "harmonized.csv")
    assert list(harmonized.columns) == list(table.columns)
    assert harmonized["subject"].equals(table["subject"])
    again = CliRunner().invoke(app, ["demo", "--out", str(out)])
    assert again.exit_code == 2
    assert "--force" in again.stderr


def test_from_a_real_shell(data: Path, out: Path) -> None:
    """The module runs as a program, records its own command, and speaks on stderr only."""
    arguments = ["harmonize", str(data), *BASE, "--no-report", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "pycombat_gam", *arguments], capture_output=True, text=True, cwd=out.parent
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert json.loads((out / "run.json").read_text())["command"] == arguments
    shown = subprocess.run(
        [sys.executable, "-m", "pycombat_gam", "summary", str(out / "model.pcg")],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
    )
    assert shown.returncode == 0, shown.stderr


def test_apply_may_estimate_a_new_site_that_the_model_refuses(data: Path, out: Path, tmp_path: Path) -> None:
    run("harmonize", data, *BASE, "--out", out)
    study().assign(site="Riga").to_csv(tmp_path / "new.csv", index=False)
    refused = CliRunner().invoke(app, ["apply", str(out / "model.pcg"), str(tmp_path / "new.csv"), "--out", "x.csv"])
    assert refused.exit_code == 2
    assert "use --on-unseen estimate" in refused.output
    run("apply", out / "model.pcg", tmp_path / "new.csv", "--on-unseen", "estimate", "--out", tmp_path / "x.csv")
    with pytest.warns(pcg.PcgWarning, match="'Riga' was not in the fit"):
        expected = ours(on_unseen="estimate").fit(study()).transform(study().assign(site="Riga"))
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "x.csv"), expected, check_exact=True)


def test_harmonize_says_what_it_harmonized(data: Path, out: Path) -> None:
    result = run("harmonize", data, *BASE, "--out", out)
    assert "Harmonized 4 features (thick, area, vol, depth) of 21 rows at 3 sites." in result.output


def test_version() -> None:
    assert run("--version").output.strip() == f"pycombat-gam {pcg.__version__}"
