"""The layers: a file imports only from lower ones; importing the package stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "pycombat_gam"

LAYERS = [
    {"types"},
    {"words"},
    {"account"},
    {"errors", "progress"},
    {"saving", "tables"},
    {"formula", "penalized"},
    {"smooth"},
    {"design"},
    {"batch"},
    {"mean"},
    {"checks"},
    {"additive", "datasets"},
    {"infer"},
    {"combat"},
    {"flow"},
    {"study"},
    {"predict", "images"},
    {"load", "audit", "diagnose", "plot"},
    {"report"},
    {"cli", "__init__"},
    {"__main__"},
]
"""Bottom first. Inside a folder (formula, penalized, smooth, …) files may import each other, acyclically."""
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def room(module: str) -> str:
    """pycombat_gam.batch.prior → batch."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports(path: Path) -> list[tuple[str, bool]]:
    """Modules of ours that a file imports, and whether at its top level."""
    tree = ast.parse(path.read_text())
    found = []
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] if node.module != "pycombat_gam" else [f"pycombat_gam.{a.name}" for a in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found += [(name, node in tree.body) for name in names if name.split(".")[0] in ("pycombat_gam", "r_bridge")]
    return found


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def test_every_file_has_its_layer() -> None:
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in files()}
    assert rooms == set(LEVEL)


def test_every_folder_is_a_package() -> None:
    """Without `__init__.py` a folder is importable here, but not part of what is installed."""
    folders = {path.parent for path in files()}
    assert all((folder / "__init__.py").exists() for folder in folders)


def test_a_file_imports_only_from_lower_layers() -> None:
    wrong = []
    for path in files():
        here = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for module, _ in imports(path):
            there = room(module)
            if module.startswith("r_bridge") or (there != here and LEVEL.get(there, 99) >= LEVEL[here]):
                wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert not wrong


def test_no_cycles_within_a_room() -> None:
    graph: dict[str, set[str]] = {}
    for path in files():
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        graph[name] = {module for module, top in imports(path) if top and module != name}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " → ".join([*trail, name])
        if name in done:
            return
        for other in graph.get(name, ()):
            visit(other, (*trail, name))
        done.add(name)

    for name in graph:
        visit(name, ())


def test_importing_is_light() -> None:
    heavy = ["rpy2", "torch", "matplotlib", "sklearn", "statsmodels", "zuko", "pyarrow", "nibabel", "PIL", "typer"]
    heavy += ["jinja2"]
    code = f"import sys, pycombat_gam, r_bridge; print([m for m in {heavy!r} if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() in ("[]", "['pyarrow']")  # pandas itself imports pyarrow where it is installed


def test_files_stay_readable() -> None:
    """400 lines are the house rule."""
    tracked = [*files(), *(ROOT / "r_bridge").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    tracked += list((ROOT / "benchmarks").rglob("*.py"))
    assert len(tracked) > 40
    long = {str(p.relative_to(ROOT)): n for p in tracked if (n := len(p.read_text().splitlines())) > 400}
    assert not long


def test_no_pickle_no_eval_no_global_random_state() -> None:
    banned = {"pickle", "eval", "exec", "compile", "__import__"}
    wrong = []
    for path in [*files(), *(ROOT / "r_bridge").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in banned:
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} calls {node.func.id}")
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                if banned & set(names):
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} imports {names}")
            if isinstance(node, ast.Attribute) and ast.unparse(node).startswith(("np.random.seed", "np.random.normal")):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} uses global random state")
    assert not wrong
