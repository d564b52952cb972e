"""One R, started by the first call, that leaves nothing behind.

>>> from r_bridge import session
>>> session.call("function(x, p) x^p", x=[1.0, 2.0, 3.0], p=2)
array([1., 4., 9.])

This is the only file that touches what rpy2 shares with the rest of the process. It uses rpy2's low-level
interface, which has no global converter to set; one re-entrant lock (held together with rpy2's own) keeps
threads apart; console callbacks and Python's interrupt handler are put back; Ctrl-C stops R, and leaves it
usable; R's global environment (where its random state lives), search path, options, kind of random generator,
working directory and sinks are, after each call, what they were.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pycombat_gam.words import listing
from r_bridge.convert import from_r, to_r
from r_bridge.errors import RError, RMissingError, RWarning

__all__ = ["RError", "RMissingError", "RWarning", "Reply", "call", "require", "run"]

_LOCK = threading.RLock()
APT = {
    "BiocParallel": "r-bioc-biocparallel", "bladderbatch": "r-bioc-bladderbatch", "limma": "r-bioc-limma",
    "sva": "r-bioc-sva",
}  # fmt: skip
"""Debian's packages whose names are not r-cran- and the R package's."""
GITHUB = {
    "ComBatFamily": "andy1764/ComBatFamily", "longCombat": "jcbeer/longCombat",
    "neuroCombat": "Jfortin1/neuroCombat_Rpackage",
}  # fmt: skip
"""R packages that are on no registry."""
FROM_CRAN = ("gamlss",)
"""R packages that Debian does not have."""
TICK = "\f"
"""What R code writes to its console to tell that a step is done."""
CRAN = "https://cloud.r-project.org"
RPY2 = "pip install 'rpy2==3.6.6' 'rpy2-rinterface==3.6.5'"
"""What the extra `r` installs. These names work wherever this package itself came from."""

# The whole exchange as one R closure: a function's text and arguments in; value, warnings and error out.
_RUNNER = """
function(source, arguments) {
  held <- as.list(globalenv(), all.names = TRUE)
  attached <- search()
  settings <- options()
  generator <- RNGkind()
  folder <- getwd()
  sinks <- sink.number()
  on.exit({
    while (sink.number() > sinks) sink()
    setwd(folder)
    options(sapply(setdiff(names(options()), names(settings)), function(name) NULL, simplify = FALSE))
    options(settings)
    if (!identical(RNGkind(), generator)) suppressWarnings(do.call(RNGkind, as.list(generator)))
    base::rm(list = setdiff(ls(globalenv(), all.names = TRUE), names(held)), envir = globalenv())
    for (name in names(held))
      if (!identical(get0(name, globalenv(), inherits = FALSE), held[[name]])) assign(name, held[[name]], globalenv())
    for (entry in setdiff(search(), attached))
      suppressWarnings(try(detach(entry, character.only = TRUE, force = TRUE), silent = TRUE))
  })
  caught <- character()
  failure <- NULL
  stopped <- FALSE
  value <- tryCatch(
    withCallingHandlers({
      frame <- list2env(arguments, parent = globalenv())
      fun <- eval(parse(text = source, keep.source = FALSE), new.env(parent = globalenv()))
      if (!is.function(fun)) stop("the source is not the text of one function")
      assign("r_function", fun, frame)
      eval(as.call(c(list(quote(r_function)), sapply(names(arguments), as.name, simplify = FALSE))), frame)
    }, warning = function(w) {
      caught <<- c(caught, conditionMessage(w))
      invokeRestart("muffleWarning")
    }),
    error = function(e) {
      where <- conditionCall(e)
      failure <<- c(conditionMessage(e), if (!is.null(where)) deparse(where, nlines = 1L)[1])
      NULL
    },
    interrupt = function(i) {
      failure <<- "interrupted"
      stopped <<- TRUE
      NULL
    })
  list(value, caught, failure, stopped)
}
"""


@dataclass(frozen=True)
class Reply:
    """What R gave back: the value, its warnings, and all it wrote to the console."""

    value: Any
    warnings: tuple[str, ...]
    output: str


def call(source: str, /, _advance: Callable[[int], object] | None = None, **arguments: Any) -> Any:
    """Evaluate the text of an R function, call it, and return its value as Python data.

    Parameters
    ----------
    source : str
        The text of one R function. Names in it resolve in R's usual way (``stats::``, ``sva::``, …).
    **arguments
        Its arguments, by name; `r_bridge.convert` says what becomes what.
    _advance
        Called with the number of steps whenever R writes `TICK`; no R argument begins with an underscore.

    Returns
    -------
    array, Series, DataFrame, dict, list or None

    Raises
    ------
    RError
        When R stops, or returns what has no plain form in Python (a function, an environment).

    R's warnings are given again as `RWarning`; what it prints is dropped. `run` returns both instead.

    >>> call("function(x) list(mean = mean(x), n = length(x))", x=[1.0, 5.0])
    {'mean': array([3.]), 'n': array([2])}
    """
    reply = run(source, _advance, **arguments)
    for message in reply.warnings:
        warnings.warn(f"R: {message}", RWarning, stacklevel=2)
    return reply.value


def run(source: str, /, _advance: Callable[[int], object] | None = None, **arguments: Any) -> Reply:
    """Do what `call` does, and return R's warnings and console output with the value.

    >>> reply = run("function() { cat('fitting'); warning('slow'); 1 }")
    >>> reply.output, reply.warnings
    ('fitting', ('slow',))
    """
    with _console(_advance) as written:
        ri = _start()
        packed = to_r(ri, arguments, "the arguments")
        with _interruptible() as came:
            value, caught, failure, stopped = ri.evalr(_RUNNER)(ri.StrSexpVector([source]), packed)
            if stopped[0] and not came:
                came.append((signal.SIGINT, None))  # R's own handler took it, as it does in Sys.sleep
        if failure is not ri.NULL:
            where = f" (in {failure[1]})" if len(failure) > 1 else ""
            raise RError(" ".join(f"R: {failure[0]}{where}".split()))
        plain = from_r(ri, value, "its value")
        return Reply(plain, tuple(caught), "".join(written))


def how_to_get(package: str) -> str:
    """Return the command that installs an R package."""
    if package in GITHUB:
        code = f'install.packages("remotes", repos = "{CRAN}"); remotes::install_github("{GITHUB[package]}")'
        return f"Rscript -e '{code}'"
    if package in FROM_CRAN:
        return f'Rscript -e \'install.packages("{package}", repos = "{CRAN}")\''
    return f"apt-get install {APT.get(package, f'r-cran-{package.lower()}')}"


def require(*packages: str) -> None:
    """Raise `RMissingError` unless R has these packages.

    >>> require("stats", "utils")
    """
    source = "function(names) vapply(names, requireNamespace, TRUE, quietly = TRUE, USE.NAMES = FALSE)"
    installed = run(source, names=list(packages)).value if packages else []
    missing = [name for name, present in zip(packages, installed, strict=True) if not present]
    if missing:
        noun, verb = ("package", "is") if len(missing) == 1 else ("packages", "are")
        raise RMissingError(f"R {noun} {listing(missing)} {verb} missing: {' && '.join(map(how_to_get, missing))}")


@contextmanager
def _console(advance: Callable[[int], object] | None = None) -> Iterator[list[str]]:
    """Hold the lock, and catch what R writes meanwhile, but for its ticks; rpy2's callbacks are put back."""
    with _LOCK:
        callbacks, lock = _rpy2()
        written: list[str] = []

        def write(text: str) -> None:
            if advance is not None and TICK in text:
                advance(text.count(TICK))
                text = text.replace(TICK, "")
            written.append(text)

        names = ("consolewrite_print", "consolewrite_warnerror")
        with lock:
            held = [getattr(callbacks, name) for name in names]
            try:
                for name in names:
                    setattr(callbacks, name, write)
                yield written
            finally:
                for name, callback in zip(names, held, strict=True):
                    setattr(callbacks, name, callback)


@functools.cache
def _rpy2() -> tuple[Any, Any]:
    """Import rpy2 (which needs R to be installed, and looks for it): its callbacks and its lock."""
    if shutil.which("R") is None and not os.environ.get("R_HOME"):
        raise RMissingError("R is not installed: apt-get install r-base-core")
    try:
        from rpy2.rinterface_lib import callbacks, openrlib
    except ImportError as error:
        raise RMissingError(f"rpy2 is missing or broken ({error}): {RPY2}") from error
    return callbacks, openrlib.rlock


@functools.cache
def _start() -> Any:
    """Start R, not interactive, and leave Python's interrupt handler and warnings alone."""
    from rpy2 import rinterface

    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if main else None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="R is not initialized by the main thread")
        rinterface.initr(interactive=False)
    if handler is not None:
        signal.signal(signal.SIGINT, handler)
    return rinterface


@contextmanager
def _interruptible() -> Iterator[list[tuple[int, Any]]]:
    """Let Ctrl-C reach R: R stops where it next looks, is left usable, and then Python's own handler acts.

    Python's handler would raise inside of a callback of R's, where an exception cannot pass.
    """
    from rpy2.rinterface_lib import openrlib

    came: list[tuple[int, Any]] = []
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if main else None
    if not callable(handler):
        yield came
        return

    def note(number: int, frame: Any) -> None:
        came.append((number, frame))
        openrlib.rlib.R_interrupts_pending = 1

    signal.signal(signal.SIGINT, note)
    try:
        yield came
    finally:
        openrlib.rlib.R_interrupts_pending = 0
        signal.signal(signal.SIGINT, handler)
        if came:
            handler(*came[-1])
