"""What a shell expects of a program: options once, Ctrl-C, memory, standard output, and a start that is not felt."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer
from helpers.study import FEATURES, study
from typer.testing import CliRunner

import pycombat_gam as pcg
from pycombat_gam.cli import app
from pycombat_gam.cli.commands import Once
from pycombat_gam.cli.shell import chosen_features, error_line, plainly
from r_bridge.cli import crosscheck

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    study().to_csv("data.csv", index=False)
    return tmp_path


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, [*arguments])


def program(code: str, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run `main` in a process of its own, after some lines of Python."""
    whole = (
        f"{code}\nimport sys\nsys.argv = {['pycombat-gam', *arguments]!r}\nfrom pycombat_gam.cli import main\nmain()"
    )
    return subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, env=ENVIRONMENT, **more)


# Options


CALL = ["harmonize", "data.csv", "--batch", "site", "--id", "subject", "--formula", "~ age", "--no-report"]


def test_features_accumulate_in_the_tables_order(here: Path) -> None:
    result = run(*CALL, "--features", "^vol$", "--features", "^(thick|vol)$", "--features=area", "--out", "out")
    assert result.exit_code == 0, result.output
    model = pcg.load("out/model.pcg")
    assert model.get_feature_names_out().tolist() == ["thick", "area", "vol"]
    one = pcg.ComBat("~ age", batch="site", id="subject", features="thick|area|vol").fit_transform(study())
    pd.testing.assert_frame_equal(pd.read_csv("out/harmonized.csv"), one, check_exact=True)


def test_columns_of_batch_id_and_formula_are_no_features(here: Path) -> None:
    table = study()
    options: dict[str, Any] = {"formula": "~ age + sex", "batch": "site", "ids": ["subject"]}
    assert chosen_features(["t|s", "e"], table, **options) == ["thick", "area", "depth"]
    assert chosen_features(["thick"], table, **options) == "thick"
    assert chosen_features([], table, **options) is None
    assert chosen_features(None, table, **options) is None


@pytest.mark.parametrize(
    ("pattern", "says"), [("nix", "--features 'nix' matches no column"), ("(", "regular expression")]
)
def test_each_pattern_has_to_match(pattern: str, says: str, here: Path) -> None:
    result = run(*CALL, "--features", "thick", "--features", pattern, "--out", "out")
    assert result.exit_code == 2
    assert says in result.stderr


def test_ids_accumulate(here: Path) -> None:
    table = study().assign(subject=[f"s{i // 3}" for i in range(21)], visit=[1, 2, 3] * 7)
    table.to_csv("data.csv", index=False)
    result = run(*CALL, "--id", "visit", "--features", "thick|area", "--out", "out")
    assert result.exit_code == 0, result.output
    assert pcg.load("out/model.pcg").id == ["subject", "visit"]


def options_of(command: Any) -> list[tuple[str, list[str], bool]]:
    """Name, arguments and whether it is a list, of each option of a command."""
    found = []
    for param in command.params:
        if param.param_type_name == "option" and not param.is_eager and param.name != "help":
            found.append((param.opts[0], [] if param.is_flag else ["1"], param.multiple))
    return found


@pytest.mark.parametrize("name", ["demo", "audit", "harmonize", "flow", "apply", "test", "interval", "crosscheck"])
def test_any_other_option_given_twice_is_refused(name: str, here: Path) -> None:
    alone = typer.Typer()
    alone.command(cls=Once)(crosscheck)
    group: Any = typer.main.get_command(app)
    command = typer.main.get_command(alone) if name == "crosscheck" else group.commands[name]
    options = options_of(command)
    assert len(options) >= 2
    for option, value, is_list in options:
        twice = [option, *value, option, *value]
        result = CliRunner().invoke(*((alone, twice) if name == "crosscheck" else (app, [name, *twice])))
        plain = " ".join(result.stderr.replace("│", " ").split())
        assert (f"'{option}': it is given 2 times: give it once" in plain) is not is_list, (option, plain)
        assert result.exit_code == 2
    lists = {option for option, _, is_list in options if is_list}
    assert lists <= {"--features", "--id", "--engine", "--terms"}


def test_opposite_flags_are_one_option(here: Path) -> None:
    result = run(*CALL, "--report", "--features", "thick", "--out", "out")
    assert result.exit_code == 2
    assert "it is given 2 times" in result.stderr
    assert not Path("out").exists()


# Ctrl-C


@pytest.mark.parametrize("moment", [1, 4])
def test_ctrl_c_while_a_table_is_parsed(moment: int, here: Path) -> None:
    """pandas' C parser makes an error of its own of the interrupt."""
    rng = np.random.default_rng(0)
    pd.DataFrame({"site": rng.choice(["A", "B"], 1500), **{f"f{k}": rng.normal(size=1500) for k in range(60)}}).to_csv(
        "wide.csv", index=False
    )
    code = f"""
import os, signal
import pandas as pd
import pycombat_gam.tables.files as io
parse, read, inside, blocks = pd.read_csv, io._Watched.readinto, [], []
def readinto(self, buffer):
    blocks.extend(inside)
    if len(blocks) == {moment}:
        os.kill(os.getpid(), signal.SIGINT)
    return read(self, buffer)
def read_csv(*given, **named):
    inside.append(1)
    return parse(*given, **named)
io._Watched.readinto, io.pd.read_csv = readinto, read_csv
"""
    done = program(code, "audit", "wide.csv", "--batch", "site")
    assert (done.returncode, done.stderr, done.stdout) == (130, "Stopped.\n", "")


def test_ctrl_c_while_modules_are_imported(here: Path) -> None:
    code = """
import sys
class Interrupted:
    def find_spec(self, name, path=None, target=None):
        if name == "pandas":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted())
"""
    done = program(code, "audit", "data.csv", "--batch", "site")
    assert (done.returncode, done.stderr) == (130, "Stopped.\n")


# Memory


def test_out_of_memory_is_one_line(here: Path) -> None:
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_AS, (SIZE * 2**20,) * 2)"
    for size in (450, 600, 750):
        done = program(
            limit.replace("SIZE", str(size)), *CALL, "--features", "thick|area", "--out", f"o{size}", timeout=120
        )
        assert done.returncode in (0, 2), done.stderr
        if done.returncode:
            assert done.stderr.startswith("Error: not enough memory: ")
            assert len(done.stderr.splitlines()) == 1
            assert not Path(f"o{size}", "run.json").exists()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        ImportError("libx.so: failed to map segment from shared object"),
        RuntimeError("can't start new thread"),
    ],
    ids=["numpy", "mmap", "import", "thread"],
)
def test_memory_is_told_however_a_library_says_it(error: Exception) -> None:
    assert str(error_line(error)).startswith("not enough memory")
    with pytest.raises(typer.Exit), plainly():
        raise error


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    assert error_line(KeyError("x")) is None
    with pytest.raises(KeyError), plainly():
        raise KeyError("x")


# Standard output


FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="a device that is always full is Linux's")
@pytest.mark.parametrize(
    "arguments",
    [["--version"], ["--help"], ["audit", "--help"], ["audit", "data.csv", "--batch", "site"], ["summary", "m.pcg"]],
    ids=" ".join,
)
def test_a_full_standard_output_is_named(arguments: list[str], here: Path) -> None:
    pcg.ComBat("~ age", batch="site", id="subject", features=FEATURES).fit(study()).save("m.pcg")
    study().drop(columns=["subject", "sex", "dx"]).to_csv("data.csv", index=False)
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pycombat_gam", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
    assert done.stderr == "Error: cannot write to standard output: No space left on device\n"
    assert done.returncode == 2


def test_a_reader_that_goes_away_is_no_error(here: Path) -> None:
    pcg.ComBat("~ age", batch="site", id="subject", features=FEATURES).fit(study()).save("m.pcg")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "pycombat_gam", "summary", "m.pcg"],
        stdout=writer,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


# Start


HEAVY = ["numpy", "pandas", "scipy", "sklearn", "matplotlib", "statsmodels", "patsy", "rpy2", "torch"]


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["--version"], [*HEAVY, "typer", "rich"]),
        (["--help"], HEAVY),
        (["harmonize", "--help"], HEAVY),
        (["crosscheck", "--help"], HEAVY),
        ([], HEAVY),
        (["harmonise"], HEAVY),
    ],
    ids=lambda value: " ".join(value) or "nothing",
)
def test_what_needs_no_numbers_imports_none(arguments: list[str], heavy: list[str]) -> None:
    loaded = f"[name for name in {heavy!r} if name in sys.modules]"
    code = f"import atexit, sys\natexit.register(lambda: print({loaded}, file=sys.stderr))"
    done = program(code, *arguments)
    assert ast.literal_eval(done.stderr.splitlines()[-1]) == []


def test_names_of_the_package_are_those_of_its_folders(here: Path) -> None:
    """A folder has the name of a function in three cases; importing one must not hide the other."""
    code = """
import pycombat_gam.audit, pycombat_gam.report.build, pycombat_gam.diagnose.rows
import pycombat_gam as pcg
from pycombat_gam.audit import audit
from pycombat_gam.report import report
from pycombat_gam.diagnose import diagnose
assert (pcg.audit, pcg.report, pcg.diagnose) == (audit, report, diagnose)
assert set(pcg.__all__) <= set(dir(pcg))
assert all(getattr(pcg, name) is not None for name in pcg.__all__ if name != "FlowSCM")
try:
    pcg.combat_gam
except AttributeError as error:
    assert "combat_gam" in str(error)
else:
    raise AssertionError
"""
    assert program(code, "--version").returncode == 0
