"""R's manners as a guest: threads, errors, what a call leaves behind, and Ctrl-C."""

from __future__ import annotations

import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from r_bridge import session

pytestmark = pytest.mark.live_r

STATE = """function() list(
  names = as.character(ls(globalenv(), all.names = TRUE)), search = search(), sinks = sink.number(),
  seed = if (exists(".Random.seed", globalenv())) get(".Random.seed", globalenv()) else 0L)"""

DEEDS = {
    "success": "function() 1",
    "error": "function() { left <<- 1; stop('late') }",
    "warning": "function() { left <<- 1; warning('odd'); 1 }",
    "not a function": "1 + 1",
    "no plain form": "function() { left <<- 1; globalenv() }",
    "library": "function() { library(splines); library(mgcv); 1 }",
    "library, then error": "function() { library(stats4); stop('late') }",
    "attach": "function() { attach(list(mine = 1), name = 'mine'); 1 }",
    "globalenv": "function() { assign('left', 1, globalenv()); assign('.hidden', 2, globalenv()); 1 }",
    "locked binding": "function() { assign('left', 1, globalenv()); lockBinding('left', globalenv()); 1 }",
    "set.seed": "function() { set.seed(1); rnorm(3) }",
    "drawing without a seed": "function() runif(3)",
    "changing what is there": "function() { theirs <<- 'changed'; .theirs <<- 'changed'; 1 }",
    "removing what is there": "function() { rm(list = ls(globalenv(), all.names = TRUE), envir = globalenv()); 1 }",
}


def in_a_fresh_python(code: str) -> str:
    """Run code in a process of its own; its standard output."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_all(work: Callable[[int], None], count: int = 8) -> None:
    """Run `work` in threads that start together; an exception in one of them is ours."""
    start, raised = threading.Barrier(count), []

    def one(k: int) -> None:
        try:
            start.wait()
            work(k)
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=one, args=(k,)) for k in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


def state() -> list[list[object]]:
    return [part.tolist() for part in session.call(STATE).values()]


@pytest.fixture
def theirs() -> Iterator[None]:
    """Somebody else's values and seed in R's global environment."""
    from rpy2 import rinterface

    session.call("function() 1")
    rinterface.evalr("theirs <- 1; .theirs <- 2; set.seed(11)")
    try:
        yield
    finally:
        rinterface.evalr("rm(theirs, .theirs, .Random.seed)")


def test_eight_threads_at_once_each_get_their_own() -> None:
    def work(k: int) -> None:
        for turn in range(10):
            tag = f"thread {k}, turn {turn}"
            kind = (k + turn) % 4
            if kind == 0:
                assert session.call("function(x) sum(x)", x=[float(k), float(turn)])[0] == k + turn
            elif kind == 1:
                with pytest.raises(session.RError, match=f"R: {tag}"):
                    session.call("function(tag) stop(tag)", tag=tag)
            elif kind == 2:
                reply = session.run("function(tag) { cat(tag); warning(tag); tag }", tag=tag)
                assert (reply.value[0], reply.warnings, reply.output) == (tag, (tag,), tag)
            else:
                coefficients = session.call(
                    "function(x, y) { set.seed(1); gc(); coef(lm(y ~ x)) }",
                    x=[1.0, 2.0, 3.0, 4.0],
                    y=[k + 2.0, k + 4.0, k + 6.0, k + 8.0],
                )
                # An exact line: rounding of least squares.
                assert coefficients.to_numpy() == pytest.approx([k, 2.0], abs=1e-10)

    run_all(work)


def test_warnings_of_all_threads_arrive() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run_all(lambda k: session.call("function(k) warning(paste('from', k))", k=k) and None)
    assert sorted(str(item.message) for item in caught) == [f"R: from {k}" for k in range(8)]


def test_seeds_of_threads_do_not_mix() -> None:
    source = "function(k) { set.seed(k); x <- rnorm(1); gc(); c(x, rnorm(4)) }"
    alone = [session.call(source, k=k).tolist() for k in range(8)]
    found: dict[int, list[float]] = {}
    run_all(lambda k: found.update({k: session.call(source, k=k).tolist()}))
    assert [found[k] for k in range(8)] == alone


def test_an_error_keeps_r_s_message_and_call() -> None:
    with pytest.raises(
        session.RError, match=r"^R: non-numeric argument to mathematical function \(in log\('a'\)\)$|log"
    ):
        session.call("function() log('a')")
    with pytest.raises(session.RError, match=r"^R: no luck with 3 \(in inner\(3\)\)$"):
        session.call("function() { inner <- function(n) stop('no luck with ', n); inner(3) }")
    with pytest.raises(session.RError, match=r"^R: no call$"):
        session.call("function() stop('no call', call. = FALSE)")
    with pytest.raises(session.RError, match=r"object 'absent' not found"):
        session.call("function(d) stats::lm(y ~ absent, d)", d={"y": [1.0, 2.0]})


@pytest.mark.parametrize("deed", DEEDS.values(), ids=DEEDS)
@pytest.mark.parametrize("ours", [False, True], ids=["R is empty", "R is in use"])
@pytest.mark.filterwarnings("ignore::r_bridge.session.RWarning")
def test_a_call_leaves_r_as_it_was(deed: str, ours: bool, request: pytest.FixtureRequest) -> None:
    if ours:
        request.getfixturevalue("theirs")
    before = state()
    with suppress(session.RError):
        session.call(deed)
    assert state() == before
    if ours:
        assert session.call("function() c(theirs, .theirs)").tolist() == [1.0, 2.0]


SETTINGS = {
    "an option": ("options(digits = 3)", "getOption('digits')"),
    "an option of its own": ("options(mine = 3)", "is.null(getOption('mine'))"),
    "contrasts": ("options(contrasts = c('contr.sum', 'contr.poly'))", "unname(getOption('contrasts'))"),
    "kind of generator": ("set.seed(1, kind = 'Wichmann-Hill')", "RNGkind()"),
    "kind of sample()": ("suppressWarnings(RNGkind(sample.kind = 'Rounding'))", "{ set.seed(1); sample(10) }"),
    "own rm()": ("{ assign('rm', function(...) 1, globalenv()); 1 }", "ls(globalenv())"),
    "working directory": ("setwd(tempdir())", "getwd()"),
    "sink": ("sink(tempfile())", "sink.number()"),
}


@pytest.mark.parametrize(("deed", "seen"), SETTINGS.values(), ids=SETTINGS)
def test_settings_are_put_back(deed: str, seen: str) -> None:
    before = list(session.call(f"function() {seen}"))
    session.call(f"function() {{ {deed}; 1 }}")
    assert list(session.call(f"function() {seen}")) == before


def test_a_locked_value_of_others_does_not_matter() -> None:
    in_a_fresh_python("""
from r_bridge import session
session.call('function() 1')
from rpy2 import rinterface
rinterface.evalr("own <- 1; lockBinding('own', globalenv())")
assert session.call('function() own') == 1.0
""")


INTERRUPT = """
import os, signal, tempfile, threading, time
from r_bridge import session
session.call("function() loadNamespace('mgcv') |> is.environment()")
MARK = os.path.join(tempfile.mkdtemp(), 'begun')
sent = []
def begins(source):
    # R says when it has begun, so that a busy machine does not turn one test into another.
    return source.replace('function() ', f"function() {{ file.create('{MARK}'); ", 1) + ' }'
def interrupt_after(seconds):
    def wait():
        while not os.path.exists(MARK):
            time.sleep(0.01)
        os.remove(MARK)
        time.sleep(seconds)
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=wait, daemon=True).start()
def usable():
    assert session.call('function(x) sum(x)', x=[1, 2]) == 3
    fitted = session.call("function(d) coef(mgcv::gam(y ~ x, data = d))", d={'x': [1., 2., 4.], 'y': [2., 4., 8.]})
    assert fitted.iloc[1] > 1.99
    assert len(session.call('function() ls(globalenv(), all.names = TRUE)')) == 0
"""

LONG = {
    "loop": "function() repeat x <- 1",
    "sleep": "function() Sys.sleep(30)",
    "gam": """function() { set.seed(1); x <- runif(5e3); y <- sin(9 * x) + rnorm(5e3)
                 repeat mgcv::gam(y ~ s(x, k = 60, bs = 'cr'), method = 'REML') }""",
    "loop that catches errors": "function() repeat try(stop('again'), silent = TRUE)",
    "loop that prints": "function() repeat { cat('x'); message('y') }",
}


@pytest.mark.parametrize("long", LONG.values(), ids=LONG)
def test_ctrl_c_is_soon_and_can_come_again(long: str) -> None:
    in_a_fresh_python(f"""{INTERRUPT}
for _ in range(3):
    interrupt_after(0.7)
    try:
        session.call(begins({long!r}))
    except KeyboardInterrupt:
        assert time.monotonic() - sent[-1] < 5, time.monotonic() - sent[-1]
    else:
        raise AssertionError('it was not interrupted')
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    usable()
""")


def test_a_handler_of_one_s_own_is_called_once_and_stays() -> None:
    in_a_fresh_python(f"""{INTERRUPT}
came = []
def mine(number, frame): came.append(number)
signal.signal(signal.SIGINT, mine)
interrupt_after(0.5)
try:
    session.call(begins('function() repeat x <- 1'))
except session.RError as error:
    assert str(error) == 'R: interrupted', error
assert came == [signal.SIGINT] and signal.getsignal(signal.SIGINT) is mine
usable()
""")


def test_r_code_that_catches_the_interrupt_does_not_hide_it_from_python() -> None:
    in_a_fresh_python(f"""{INTERRUPT}
interrupt_after(0.5)
try:
    session.call(begins('function() tryCatch(repeat x <- 1, interrupt = function(i) 5)'))
except KeyboardInterrupt:
    usable()
else:
    raise AssertionError('it was hidden')
""")


def test_an_ignored_ctrl_c_stays_ignored() -> None:
    in_a_fresh_python(f"""{INTERRUPT}
signal.signal(signal.SIGINT, signal.SIG_IGN)
interrupt_after(0.3)
source = 'function() {{ end <- Sys.time() + 1; while (Sys.time() < end) x <- 1; 7 }}'
assert session.call(begins(source)) == 7.0 and sent
assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
""")


WORKER = """
found, done = [], threading.Event()
def work():
    try:
        found.append(session.call(begins(LONG))[0])
    finally:
        done.set()
threading.Thread(target=work, daemon=True).start()
interrupt_after(0.7)
try:
    time.sleep(20)
except KeyboardInterrupt:
    pass
else:
    raise AssertionError('the main thread was not interrupted')
assert done.wait(20) and found == [7.0], found
usable()
"""


@pytest.mark.parametrize("first", ["main", "worker"])
def test_ctrl_c_while_a_thread_is_in_r_stops_python_and_not_r(first: str) -> None:
    start = INTERRUPT if first == "main" else INTERRUPT.replace('session.call("function() loadNamespace', 'str("', 1)
    long = "function() { end <- Sys.time() + 3; while (Sys.time() < end) x <- 1; 7 }"
    in_a_fresh_python(f"{start}\nLONG = {long!r}\n{WORKER}")


@pytest.mark.xfail(strict=True, reason="R's select() takes SIGINT and jumps from the main thread to the worker's stack")
def test_ctrl_c_while_a_thread_sleeps_in_r() -> None:
    in_a_fresh_python(f"{INTERRUPT}\nLONG = 'function() {{ Sys.sleep(3); 7 }}'\n{WORKER}")
