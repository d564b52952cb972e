"""Settings of the site that `make docs` builds from this folder: vignettes, executed, and the reference."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util.nodes import make_refnode

import pycombat_gam

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build"

project = "pycombat_gam"
author = "The pycombat_gam developers"
copyright = "The pycombat_gam developers"
version = release = pycombat_gam.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc"]
exclude_patterns = ["images/*"]
language = "en"

html_theme = "furo"
html_title = "pycombat_gam"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = html_show_sourcelink = False
html_use_index = True
pygments_style, pygments_dark_style = "friendly", "native"
templates_path: list[str] = []

# Text

myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 3
html_math_renderer = "mathml"

# Execution: in kernels that leave the user's home alone, and again whenever anything changed that a page may show.

nb_execution_mode = "cache"
nb_execution_in_temp = True
nb_execution_raise_on_error = nb_execution_show_tb = True
nb_execution_timeout = 300
nb_output_stderr = "warn"  # what a cell says there is shown only where the page means to show it
nb_ipywidgets_js: dict[str, dict[str, str]] = {}
nb_number_source_lines = False


def fingerprint() -> str:
    """Hash the packages' sources and the versions of everything installed."""
    installed = sorted(f"{one.name} {one.version}" for one in distributions())
    digest = hashlib.sha256(json.dumps([sys.version, *installed]).encode())
    for package in ("pycombat_gam", "r_bridge"):
        for path in sorted((ROOT / package).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def register_kernels() -> None:
    """Write the kernels of this Python and of R; keep all that they write in `build/`."""
    environment = {
        **{name: str(BUILD / "jupyter" / name.lower()) for name in ("IPYTHONDIR", "JUPYTER_DATA_DIR", "MPLCONFIGDIR")},
        "JUPYTER_RUNTIME_DIR": str(BUILD / "jupyter" / "runtime"),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "PAGES": str(PAGES),
        "RETICULATE_PYTHON": sys.executable,
        "LC_ALL": "C.UTF-8",
        "COLUMNS": "92",
        "NO_COLOR": "1",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    }
    python = [sys.executable, "-m", "ipykernel_launcher", "--log-level=ERROR", "-f", "{connection_file}"]
    r = ["R", "--slave", "--vanilla", "-e", "IRkernel::main()", "--args", "{connection_file}"]
    for name, language, argv in (("python3", "python", python), ("ir", "R", r)):
        folder = BUILD / "jupyter" / "kernels" / name
        folder.mkdir(parents=True, exist_ok=True)
        kernel = {"argv": argv, "display_name": language, "language": language, "env": environment}
        (folder / "kernel.json").write_text(json.dumps(kernel), encoding="utf-8")
    os.environ |= {"JUPYTER_PATH": str(BUILD / "jupyter")} | {
        name: value for name, value in environment.items() if name.startswith(("JUPYTER", "IPYTHON"))
    }


EXECUTED = BUILD / "executed" / fingerprint()
nb_execution_cache_path = str(EXECUTED)
PAGES = EXECUTED / "pages"
"""Where vignettes leave whole pages, reports, that are shown as they are."""
PAGES.mkdir(parents=True, exist_ok=True)
html_extra_path = [str(PAGES)]

# Reference

autosummary_generate = False
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "exclude-members": "to_container, from_container"}
autodoc_typehints = "signature"
numpydoc_show_class_members = False
python_maximum_signature_line_length = 90
python_use_unqualified_type_names = True
# What docstrings put between single backticks is code of ours: a link where the site has it, plain code elsewhere.
default_role = "py:obj"
# No inventory of another package can be had without internet: their types stay text. Our own must lead somewhere.
INSIDE = (
    r"pycombat_gam\.(mean\.fit|design|formula\.formula|saving|account|study|words|types|batch|combat\.fitted|flow\.fitted|predict\.fitted)\..*"
    r"|r_bridge\.(session|study)\..*"
)
"""What signatures name and the reference leaves to the code."""
nitpick_ignore_regex = [
    ("py:obj", ".*"),
    ("py:class", INSIDE),
    ("py:class", r"(?!pycombat_gam\.|r_bridge\.).*"),
    ("py:exc", r"(?!pycombat_gam\.|r_bridge\.).*"),
]

LISTS = ("Parameters", "Attributes", "Returns", "Raises", "Yields")
TYPE = 60
"""A first line this short, with more below, is a type; the house style runs on, `name : description`, to full width."""


def sections(lines: list[str]) -> list[tuple[int, int]]:
    """Return where numpydoc's lists begin and end: the first line below the rule, and one past the last."""
    heads = [k for k in range(len(lines) - 1) if lines[k].strip() and re.fullmatch(r"-{3,}", lines[k + 1])]
    ends = [*heads, len(lines)][1:]
    return [(k + 2, end) for k, end in zip(heads, ends, strict=True) if lines[k] in LISTS]


def entries(lines: list[str], returned: bool) -> list[str]:
    """Rewrite entries ``name : description`` and ``a : one; b : two`` as numpydoc wants them: the name alone above."""
    given: list[list[str]] = []
    for line in lines:
        if line[:1].strip() and not (returned and given and given[-1][0] and not given[-1][1:] and " : " not in line):
            given.append([line])
        elif line[:1].strip():
            given[-1][0] += f" {line}"  # prose that runs on
        elif given:
            given[-1].append(line)
    out: list[str] = []
    for head, *rest in given:
        name, colon, text = head.partition(" : ")
        below = [line.strip() for line in rest if line.strip()]
        if not colon or (below and len(text) < TYPE and text[-1:] not in ".;,:"):
            out += [head, *rest]
            continue
        whole = " ".join([text, *below])
        for part in re.split(r"; (?=[A-Za-z_]\w*(?:, [A-Za-z_]\w*)* : )", f"{name} : {whole}"):
            name, _, text = part.partition(" : ")
            out += [name, f"    {text[:1].upper()}{text[1:].rstrip('.')}."]
    return [*out, ""]


def plain(line: str) -> str:
    """Take bars outside of code as bars, and code that begins with a dot as code."""
    parts = re.split(r"(`+[^`]*`+)", line)
    parts[::2] = [re.sub(r"(?<!\\)\|", r"\|", part) for part in parts[::2]]
    parts[1::2] = [f"`{part}`" if re.match(r"`\.", part) else part for part in parts[1::2]]
    return "".join(parts)


def house_style(app: Sphinx, what: str, name: str, obj: object, options: Any, lines: list[str]) -> None:
    """Let numpydoc read the docstrings of this project; runs before numpydoc does."""
    for start, end in reversed(sections(lines)):
        if lines[start - 2] != "Raises":
            lines[start:end] = entries(lines[start:end], lines[start - 2] in ("Returns", "Yields"))
    lines[:] = [line if line.lstrip().startswith((">>>", "...", ".. ")) else plain(line) for line in lines]


def signature(
    app: Sphinx, what: str, name: str, obj: Any, options: object, given: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Show no constructor of what users never construct, results; say which `Diagnosis` is meant, as there are two."""
    if what == "class" and (hasattr(obj, "__dataclass_fields__") or name.endswith(("Fit", "Fits"))):
        return "", ""
    full = f"~{name.partition('.')[0]}.Diagnosis"
    first, second = (text and re.sub(r"(?<![\w.])Diagnosis\b", full, text) for text in (given, returns))
    return first, second


def by_last_name(app: Sphinx, env: Any, node: nodes.Element, shown: nodes.Element) -> nodes.Element | None:
    """Link `Estimates` wherever it is named: docstrings leave out where a class lives."""
    if node.get("refdomain") != "py" or node["reftype"] != "obj":
        return None
    classes = [
        (name, entry)
        for name, entry in env.get_domain("py").objects.items()
        if name.endswith(f".{node['reftarget']}") and entry.objtype in ("class", "exception") and not entry.aliased
    ]
    if len(classes) != 1:
        return None
    name, entry = classes[0]
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, shown, name)


def mathml(translator: Any, node: nodes.Element) -> None:
    """Write a formula as MathML, which browsers draw by themselves: no script, no font, no network."""
    block = isinstance(node, nodes.math_block)
    written = tex2mathml(node.astext(), as_block=block)
    translator.body.append(f'<div class="math">{written}</div>' if block else written)
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Connect what is above."""
    register_kernels()
    app.add_html_math_renderer("mathml", inline_renderers=(mathml, None), block_renderers=(mathml, None))
    app.connect("autodoc-process-docstring", house_style, priority=100)
    app.connect("autodoc-process-signature", signature)
    app.connect("missing-reference", by_last_name)
