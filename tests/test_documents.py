"""README and vignettes: what the site's build does not run or cannot see.

The build (`make docs`) runs every cell of the vignettes. Blocks that are only shown run here, in order, in an empty
folder.
"""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

import pycombat_gam as pcg
import r_bridge
from pycombat_gam.cli import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "vignettes").rglob("*.md"))]
WIDTH = "100"
"""Characters of a line of code that the site shows without scrolling."""


def blocks(path: Path, kind: str) -> list[str]:
    """Code of the fenced blocks of a kind."""
    return re.findall(rf"^```{re.escape(kind)}\n(.*?)^```$", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def cells(path: Path) -> list[tuple[str, str]]:
    """Tags and code of each Python cell, shell commands left out."""
    found = [re.fullmatch(r"(?::tags: (.*)\n\n)?(.*)", text, re.DOTALL) for text in blocks(path, "{code-cell} python")]
    assert all(found)
    return [(one[1] or "", re.sub(r"^!.*\n", "", one[2], flags=re.MULTILINE)) for one in found if one]


SHOWN = [path for path in PAGES if blocks(path, "python")]
VIGNETTES = [path for path in PAGES if blocks(path, "{code-cell} python")]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def ruff(*arguments: str) -> None:
    ran = subprocess.run([sys.executable, "-m", "ruff", *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("path", SHOWN, ids=name_of)
def test_python_blocks_run(path: Path, tmp_path: Path) -> None:
    script = tmp_path / "document.py"
    script.write_text("\n".join(blocks(path, "python")), encoding="utf-8")
    ran = subprocess.run([sys.executable, "-W", "error", script], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_there_are_vignettes() -> None:
    names = {path.stem for path in VIGNETTES}
    assert names >= {"first_harmonization", "beside_mgcv", "counterfactuals", "supplement", "command_line"}


@pytest.mark.parametrize("path", VIGNETTES, ids=name_of)
def test_a_reader_can_copy_what_is_shown(path: Path, tmp_path: Path) -> None:
    """No shown cell needs a name, or an import, of a hidden one."""
    shown = [code for tags, code in cells(path) if "remove-cell" not in tags]
    script = tmp_path / "shown.py"
    script.write_text("\n".join(shown), encoding="utf-8")
    ruff("check", "--isolated", "--select", "F821,F822,F823", str(script))


@pytest.mark.parametrize("path", VIGNETTES, ids=name_of)
def test_cells_are_formatted(path: Path, tmp_path: Path) -> None:
    """Cells are invisible to ruff where they stand; blocks of Markdown it knows."""
    page = tmp_path / "cells.md"
    page.write_text("\n".join(f"```python\n{code}```\n" for _, code in cells(path) if code), encoding="utf-8")
    ruff("format", "--isolated", "--check", "--diff", "--line-length", WIDTH, str(page))


@pytest.mark.parametrize("path", VIGNETTES, ids=name_of)
def test_numbers_in_sentences_come_from_cells(path: Path) -> None:
    """What `{glue:text}` names is made on the page, and what is made for a sentence is used."""
    text = path.read_text(encoding="utf-8")
    made = {name for _, code in cells(path) for name in re.findall(r'^ *show\(f?"(\w+)', code, re.MULTILINE)}
    used = set(re.findall(r"{glue:text}`(\w+)`", text))
    assert all(any(name.startswith(one) for one in made) for name in used)
    assert all(any(name.startswith(one) for name in used) for one in made)


def test_every_command_is_in_the_reference() -> None:
    """A shell command that fails in a cell does not stop the build, so that a wrong name would show as an error."""
    page = (ROOT / "vignettes" / "command_line.md").read_text(encoding="utf-8")
    shown = re.findall(r"^!pycombat-gam (\w+) --help$", page, flags=re.MULTILINE)
    registered = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
    others = [entry.name for entry in entry_points(group="pycombat_gam.commands")]
    assert sorted(shown) == sorted({*registered, *others})
    assert shown == re.findall(r"^## (\w+):", page, flags=re.MULTILINE)


@pytest.mark.parametrize("package", [pcg, pcg.plot, r_bridge], ids=lambda package: str(package.__name__))
def test_every_public_name_is_in_the_reference(package: ModuleType) -> None:
    pages = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "vignettes" / "api").glob("*.md"))
    absent = [name for name in package.__all__ if not re.search(rf":: {package.__name__}\.{name}\b", pages)]
    assert not [name for name in absent if not isinstance(getattr(package, name), ModuleType)]


def test_quick_start_is_ten_lines() -> None:
    block = re.search(r"## Quick start\n\n```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert block
    assert len([line for line in block[1].splitlines() if line.strip()]) <= 10


def test_files_that_the_shell_commands_read_are_there(tmp_path: Path) -> None:
    """The first command writes the example; what a later one reads was written by then."""
    (commands,) = blocks(ROOT / "README.md", "sh")[:1]
    first, *others = [line for line in commands.splitlines() if line]
    python = first.replace("python", f"'{sys.executable}'", 1)
    subprocess.run(["sh", "-c", python], cwd=tmp_path, check=True)
    written = {path.name for path in tmp_path.iterdir()} | {"out/model.pcg"}
    for line in others:
        read = re.findall(r"^pycombat-gam \w+ (\S+)(?: (\w+\.csv))?", line)[0]
        assert {name for name in read if name} <= written, line
    model = pcg.ComBat("~ age", batch="site", id="subject", features="_thickness$")
    new = model.fit(pd.read_csv(tmp_path / "data.csv")).transform(pd.read_csv(tmp_path / "new.csv"))
    assert len(new) == 10


def test_nothing_printed_is_cut_short() -> None:
    """A pandas table that is wider than 80 characters is shown with its middle left out."""
    table = pcg.datasets.load_multisite()
    model = pcg.ComBat("~ age", batch="site", id="subject", features="_thickness$").fit(table)
    shown = [line for line in blocks(ROOT / "README.md", "python")[0].splitlines() if "estimates" in line]
    columns = re.search(r"iloc\[:, :(\d)\]", shown[0])
    assert columns
    with pd.option_context("display.width", 80, "display.max_columns", 0):
        assert "..." not in repr(model.estimates.gamma_star.iloc[:, : int(columns[1])])


def check_links(*places: Path) -> subprocess.CompletedProcess[str]:
    script = ROOT / "vignettes" / "check_links.py"
    return subprocess.run([sys.executable, script, *places], capture_output=True, text=True, check=False)


def test_links_lead_somewhere() -> None:
    ran = check_links(ROOT / "README.md", ROOT / "benchmarks" / "README.md")
    assert ran.returncode == 0, ran.stdout


def test_broken_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "good.html").write_text('<h1 id="a b">x</h1><a href="https://cran.r-project.org/x">R</a>')
    (tmp_path / "page.html").write_text(
        '<a href="good.html#a%20b"></a> <a href="#here"></a><p id="here"> <img src="data:image/png;base64,AA">'
        '<a href="gone.html"></a> <a href="good.html#c"></a> <a href="#there"></a> <a href="http://a.org"></a>'
        '<script src="https://cdn.org/x.js"></script> <img src="gone.png"> <link href="//cdn.org/x.css">'
    )
    (tmp_path / "text.md").write_text(
        "# A `b` c!\n[x](#a-b-c) [y](#a-b) [z](gone.md) `[no](link.md)` ![p](https://a.org/p)\n"
    )
    ran = check_links(tmp_path, tmp_path / "text.md")
    wrong = [line.partition(": ")[2] for line in ran.stdout.splitlines()[:-1]]
    assert ran.returncode == 1
    assert wrong == [
        "loads https://cdn.org/x.js from elsewhere",
        "loads //cdn.org/x.css from elsewhere",
        "gone.html is not there",
        "good.html#c: the page is there, the anchor is not",
        "#there: the page is there, the anchor is not",
        "http://a.org is no https address",
        "gone.png is not there",
        "//cdn.org/x.css is no https address",
        "loads https://a.org/p from elsewhere",
        "#a-b: the page is there, the anchor is not",
        "gone.md is not there",
    ]


def test_pictures_are_what_their_script_draws(tmp_path: Path) -> None:
    """matplotlib brings its fonts; other releases of it and of FreeType move edges by a pixel."""
    subprocess.run([sys.executable, ROOT / "vignettes" / "pictures.py", tmp_path], check=True, capture_output=True)
    kept = sorted((ROOT / "vignettes" / "images").glob("*.png"))
    assert [path.name for path in kept] == sorted(path.name for path in tmp_path.iterdir())
    for path in kept:
        assert path.stat().st_size < 150_000
        committed, drawn = matplotlib.image.imread(path), matplotlib.image.imread(tmp_path / path.name)
        assert committed.shape == drawn.shape
        assert np.abs(committed - drawn).mean() < 0.01, path.name
