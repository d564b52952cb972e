"""R users, through reticulate: the chunks of `vignettes/from_r.md` run, and give what Python gives."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import pycombat_gam as pcg
from r_bridge import session

pytestmark = pytest.mark.live_r

VIGNETTE = Path(__file__).resolve().parents[2] / "vignettes" / "from_r.md"
FEATURES = ["lh_precuneus_thickness", "lh_insula_thickness", "lh_entorhinal_thickness"]

DUMP = """
dump_csv <- function(d, file) {
  for (k in which(vapply(d, is.double, TRUE))) d[[k]] <- ifelse(is.na(d[[k]]), NA, sprintf("%.17g", d[[k]]))
  write.csv(d, file, fileEncoding = "UTF-8")
}
"""


def chunks_of_r() -> list[str]:
    return re.findall(r"```{code-cell} r\n(.*?)```", VIGNETTE.read_text(encoding="utf-8"), flags=re.DOTALL)


def helpers() -> str:
    """The chunks up to the first harmonization: reticulate, the package, and the conversion of tables."""
    chunks = chunks_of_r()
    return "\n".join(chunks[: next(k for k, chunk in enumerate(chunks) if "load_multisite" in chunk)]) + DUMP


def rscript(folder: Path, code: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    session.require("reticulate", "mgcv")  # an error, not a skip
    script = folder / "script.R"
    script.write_text(code, encoding="utf-8")
    env = {**os.environ, "RETICULATE_PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        ["Rscript", "--vanilla", str(script)], cwd=folder, env=env, capture_output=True, encoding="utf-8", check=False
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def from_csv(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, index_col=0, keep_default_na=False, na_values=["NA"])


def same_numbers(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert found.index.tolist() == expected.index.tolist()
    assert found.columns.tolist() == expected.columns.tolist()
    wanted = expected.to_numpy(dtype=float, na_value=np.nan)
    # Text with 15 digits.
    np.testing.assert_allclose(found.to_numpy(dtype=float), wanted, rtol=0, atol=1e-10)


@pytest.fixture(scope="module")
def vignette(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The whole vignette as one script, and the tables it ends with."""
    folder = tmp_path_factory.mktemp("from_r")
    ends_with = """
dump_csv(harmonized, "harmonized.csv")
dump_csv(one, "one.csv")
for (name in c("gamma_star", "delta_star", "coefficients", "edf", "grand_mean")) {
  stopifnot(is.data.frame(model$estimates[[name]]))
  dump_csv(model$estimates[[name]], paste0(name, ".csv"))
}
dump_csv(data.frame(fit = curve, se = both$se, reference = c(predict(reference, grid))), "curve.csv")
stopifnot(
  is.factor(harmonized$site), identical(levels(harmonized$site), levels(table$site)),
  identical(levels(harmonized$sex), c("M", "F")), identical(row.names(harmonized), row.names(table)),
  identical(names(harmonized), names(table)), identical(row.names(shift), levels(table$site)),
  !identical(harmonized[features], table[features]), identical(class(harmonized), "data.frame"),
  grepl("row (index sub-0007)", failure, fixed = TRUE), inherits(try(model$fit(gap), silent = TRUE), "try-error")
)
"""
    done = rscript(folder, "\n".join(chunks_of_r()) + DUMP + ends_with)
    return folder, done.stdout


def study() -> pd.DataFrame:
    table = pcg.datasets.load_multisite().set_index("subject")[["site", "age", "sex", *FEATURES]]
    table["site"] = pd.Categorical(table["site"], categories=table["site"].value_counts().index)
    table["sex"] = pd.Categorical(table["sex"], categories=["M", "F"])
    return table


def test_every_cell_is_python_s(vignette: tuple[Path, str]) -> None:
    folder, _ = vignette
    table = study()
    model = pcg.ComBat("~ s(age) + sex", batch="site", features=FEATURES)
    harmonized = model.fit_transform(table)
    found = from_csv(folder / "harmonized.csv")
    assert found.columns.tolist() == table.columns.tolist()
    assert found[["site", "sex"]].equals(table[["site", "sex"]].astype(found["site"].dtype).rename_axis(None))
    numbers = ["age", *FEATURES]
    same_numbers(found[numbers], harmonized[numbers])
    same_numbers(from_csv(folder / "one.csv")[numbers], harmonized[numbers].iloc[[16]])
    for name in ("gamma_star", "delta_star", "coefficients", "edf", "grand_mean"):
        same_numbers(from_csv(folder / f"{name}.csv"), getattr(model.estimates, name))


def test_the_curve_is_python_s_and_mgcv_s(vignette: tuple[Path, str]) -> None:
    folder, _ = vignette
    table = study()
    harmonized = pcg.ComBat("~ s(age) + sex", batch="site", features=FEATURES).fit_transform(table)
    fit = pcg.gam("lh_precuneus_thickness ~ s(age) + sex", harmonized)
    ages = np.arange(11, 76.1, 0.5)
    grid = pd.DataFrame({"age": ages, "sex": "F"}, index=range(1, len(ages) + 1))
    expected = fit.predict(grid, se=True)
    found = from_csv(folder / "curve.csv")
    same_numbers(found[["fit", "se"]], pd.DataFrame({"fit": expected.fit, "se": expected.se}))
    # Two searches, R's and ours.
    np.testing.assert_allclose(found["fit"], found["reference"], rtol=0, atol=1e-6)


def test_the_vignette_prints(vignette: tuple[Path, str]) -> None:
    """That it runs without IRkernel too, by Rscript; what the site shows of it is IRkernel's."""
    for expected in (
        "Call:  ComBat('~ s(age) + sex', batch='site'",
        "largest difference from mgcv:",
        "largest difference of standard errors:",
        "column 'age' has missing values in 1 row (index sub-0007); fill the",
        '[1] "DataError"',
    ):
        assert expected in vignette[1]


def awkward() -> pd.DataFrame:
    """Numbers, wholes, logicals, an ordered factor; missing cells where they are not used; names beyond ASCII."""
    rng = np.random.default_rng(7)
    n = 90
    site = np.repeat(["Ærø", "Łódź", "São Paulo"], n // 3)
    table = pd.DataFrame(
        {
            "Épaisseur (mm)": rng.normal(2.5, 0.2, n) + (site == "Łódź"),
            "centre": site,
            "âge": rng.integers(20, 70, n),
            "stage": rng.choice(["low", "mid", "high"], n),
            "treated": rng.random(n) < 0.4,
            "unused_whole": pd.array([None, *range(1, n)], dtype="Int64"),
            "unused_yes": pd.array([True, None] * (n // 2), dtype="boolean"),
            "unused_text": ["NA", None, "", "日本", "b"] * (n // 5),
            "体積": rng.integers(900, 1500, n),
            "x.3": rng.normal(0, 1, n),
        },
        index=range(1001, 1001 + n),
    )
    table.loc[1005, "x.3"] = np.nan
    return table


CATEGORIES = {"centre": ["Łódź", "Ærø", "São Paulo", "nowhere"], "stage": ["low", "mid", "high"]}
READ = """
table <- read.csv("table.csv", row.names = 1, check.names = FALSE, na.strings = "<NA>", encoding = "UTF-8")
table$centre <- factor(table$centre, c("Łódź", "Ærø", "São Paulo", "nowhere"))
table$stage <- factor(table$stage, c("low", "mid", "high"), ordered = TRUE)
for (name in c("treated", "unused_yes")) table[[name]] <- as.logical(table[[name]])
stopifnot(is.integer(table$`âge`), is.integer(table$unused_whole), anyNA(table$unused_whole), "NA" %in%
  table$unused_text, anyNA(table$unused_text), anyNA(table$unused_yes), is.integer(attr(table, "row.names")))
"""


def test_awkward_tables_come_back_as_they_went(tmp_path: Path) -> None:
    table = awkward()
    table.to_csv(tmp_path / "table.csv", na_rep="<NA>", float_format="%.17g")
    features = ["Épaisseur (mm)", "体積", "x.3"]
    done = rscript(
        tmp_path,
        helpers()
        + READ
        + """
features <- c("Épaisseur (mm)", "体積", "x.3")
model <- pcg$ComBat("~ âge + stage + treated", batch = "centre", features = features, missing = "omit")
harmonized <- model$fit_transform(table)
others <- setdiff(names(table), features)
stopifnot(
  identical(harmonized[others], table[others]), identical(dimnames(harmonized), dimnames(table)),
  identical(attr(harmonized, "row.names"), attr(table, "row.names")), is.ordered(harmonized$stage),
  all(vapply(harmonized[features], is.double, TRUE)), identical(is.na(harmonized$x.3), is.na(table$x.3)),
  identical(model$transform(table[40, ]), harmonized[40, ]),
  identical(import("copy")$copy(table[0, ]), table[0, ]), identical(import("copy")$copy(table), table)
)
dump_csv(harmonized[features], "harmonized.csv")
""",
    )
    assert "PcgWarning: integer, boolean or half-precision features come back as float64: 体積" in done.stderr
    for name, levels in CATEGORIES.items():
        table[name] = pd.Categorical(table[name], categories=levels, ordered=name == "stage")
    model = pcg.ComBat("~ âge + stage + treated", batch="centre", features=features, missing="omit")
    with pytest.warns(pcg.PcgWarning, match="体積"):
        expected = model.fit_transform(table)
    same_numbers(from_csv(tmp_path / "harmonized.csv"), expected[features])


def test_what_cannot_be_carried_is_named(tmp_path: Path) -> None:
    code = """
table <- data.frame(site = rep(c("a", "b"), 5), y = rnorm(10), day = Sys.Date())
said <- function(expression) tryCatch({expression; "nothing"}, error = conditionMessage)
model <- pcg$ComBat("~ 1", batch = "site")
found <- c(said(model$fit(table)), said(pcg$ComBat(~ age, batch = "site")))
found <- c(found, said(pcg$ComBat("~ 1", batch = "sites")$fit(table[1:2])), said(model$transform(table[1:2])))
writeLines(trimws(found), "said.txt")
"""
    rscript(tmp_path, helpers() + code)
    lines = (tmp_path / "said.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "column 'day' is of class Date: make it numeric, text or a factor"
    assert lines[1] == "Unable to convert R object to Python type"
    assert "DataError: batch column 'sites' is not in the table, which has: site, y" in lines[2]
    assert "NotFittedError: this ComBat is not fitted yet" in lines[3]
    failed = rscript(
        tmp_path, helpers() + 'pcg$ComBat("~ age +", batch = "site")$fit(data.frame(y = 1:3))', check=False
    )
    assert failed.returncode == 1 and "FormulaError" in failed.stderr
