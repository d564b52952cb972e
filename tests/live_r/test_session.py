"""The one R of this process: what goes in comes out, and nothing is left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import warnings

import numpy as np
import pandas as pd
import pytest

from r_bridge import session

pytestmark = pytest.mark.live_r

IDENTITY = "function(x) x"
DESCRIBE = "function(x) list(type = typeof(x), class = class(x), length = length(x), na = anyNA(x))"


def in_a_fresh_python(code: str) -> str:
    """Run code in a process of its own, warnings being errors; its standard output."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_neither_loads_rpy2_nor_starts_r() -> None:
    in_a_fresh_python("import sys, r_bridge, r_bridge.session; assert not [m for m in sys.modules if 'rpy2' in m]")


def test_starting_r_prints_nothing_and_leaves_the_interrupt_handler_and_random_state() -> None:
    printed = in_a_fresh_python(
        "import random, signal, numpy as np\n"
        "def handler(*_): pass\n"
        "signal.signal(signal.SIGINT, handler)\n"
        "np.random.seed(1); before = np.random.get_state()[1].tolist()\n"
        "from r_bridge import session\n"
        "session.call('function() { print(1); cat(2); message(3); 4 }')\n"
        "assert signal.getsignal(signal.SIGINT) is handler\n"
        "assert np.random.get_state()[1].tolist() == before\n"
    )
    assert printed == ""


def test_r_starts_and_answers_in_a_thread() -> None:
    printed = in_a_fresh_python(
        "import threading\n"
        "from r_bridge import session\n"
        "found = []\n"
        "def work(): found.append(session.call('function(x) sum(x)', x=[1, 2]))\n"
        "thread = threading.Thread(target=work)\n"
        "thread.start(); thread.join(); print(found[0].tolist())\n"
    )
    assert printed == "[3]\n"


@pytest.mark.parametrize(
    "value",
    [
        np.array([1.5, -2.0, np.nan, np.inf]),
        np.arange(6, dtype=np.int64),
        np.array([True, False]),
        np.array([], dtype=float),
        np.array([], dtype=np.int64),
        np.empty((0, 3)),
        np.arange(12.0).reshape(3, 4),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.arange(24.0).reshape(2, 3, 4)[:, ::2, ::-1],
        np.arange(6).reshape(2, 3),
        np.array([[True], [False]]),
        np.array(["a", "ü", "日本"], dtype=object),
        np.array([["a", "b"], ["c", "d"]], dtype=object),
        np.array(["a", None], dtype=object),
    ],
    ids=lambda value: f"{value.dtype}{value.shape}",
)
def test_arrays_come_back_unchanged(value: np.ndarray) -> None:
    back = session.call(IDENTITY, x=value)
    np.testing.assert_array_equal(back, value, strict=True)


def test_what_comes_back_is_not_r_s_memory() -> None:
    back = session.call("function(n) as.numeric(seq_len(n))", n=1000)
    for _ in range(20):
        session.call("function(n) { x <- rnorm(n); gc(); x }", n=100_000)
    np.testing.assert_array_equal(back, np.arange(1.0, 1001.0))


@pytest.mark.parametrize(
    ("value", "type_", "class_"),
    [
        (True, "logical", "logical"),
        (3, "integer", "integer"),
        (2**31, "double", "numeric"),
        (1.5, "double", "numeric"),
        ("text", "character", "character"),
        (["a", "b"], "character", "character"),
        (["a", None], "character", "character"),
        ([1, 2.5], "double", "numeric"),
        ([True, None], "logical", "logical"),
        (np.float32(1.5), "double", "numeric"),
        (np.array([1, 2], dtype=np.uint8), "integer", "integer"),
        (pd.Series(["x", "y"]), "character", "character"),
        (pd.Series([1, None], dtype="Int64"), "integer", "integer"),
        (pd.Series(["x", "y"], dtype="category"), "integer", "factor"),
        (None, "NULL", "NULL"),
        ({"a": 1}, "list", "list"),
        ([[1.0], "a"], "list", "list"),
        ([], "list", "list"),
    ],
)
def test_python_values_become_r_s_types(value: object, type_: str, class_: str) -> None:
    seen = session.call(DESCRIBE, x=value)
    assert (seen["type"][0], seen["class"][0]) == (type_, class_)


def test_missing_values_are_na_in_r() -> None:
    for value in (
        ["a", None],
        [True, None],
        [1.5, None],
        pd.Series(["a", None]),
        pd.Categorical(["a", None]),
    ):
        assert session.call(DESCRIBE, x=value)["na"][0]


def test_data_frames_go_both_ways() -> None:
    table = pd.DataFrame(
        {
            "5th-Ventricle": [1.5, np.nan, 3.0],
            "n": [1, 2, 3],
            "old": [True, False, True],
            "site": ["NYU", "Zürich", "NYU"],
        }
    )
    pd.testing.assert_frame_equal(session.call(IDENTITY, x=table), table)
    named = table.set_axis(["r1", "r2", "r3"])
    back = session.call(IDENTITY, x=named)
    assert list(back.index) == ["r1", "r2", "r3"]
    factor = table.assign(site=table["site"].astype("category"))
    seen = session.call("function(x) list(levels(x$site), as.integer(x$site), nrow(x), names(x))", x=factor)
    assert [part.tolist() for part in seen] == [["NYU", "Zürich"], [1, 2, 1], [3], list(table.columns)]
    assert list(session.call("function(x) x$site", x=factor)) == ["NYU", "Zürich", "NYU"]


def test_what_r_returns() -> None:
    back = session.call(
        """function() list(matrix = matrix(1:4, 2, dimnames = list(c("a", "b"), c("u", "v"))),
             half = matrix(1:4, 2, dimnames = list(NULL, c("u", "v"))),
             named = c(x = 1.5, y = 2), table = table(c("p", "p", "q")), whole = c(1L, NA),
             truth = c(TRUE, NA), factor = factor(c("lo", NA, "hi")), nothing = NULL,
             nested = list(1, list(a = "b")))"""
    )
    pd.testing.assert_frame_equal(back["matrix"], pd.DataFrame([[1, 3], [2, 4]], ["a", "b"], ["u", "v"]))
    assert list(back["half"].columns) == ["u", "v"] and list(back["half"].index) == [0, 1]
    assert back["named"].to_dict() == {"x": 1.5, "y": 2.0}
    assert back["table"].to_dict() == {"p": 2, "q": 1}
    np.testing.assert_array_equal(back["whole"], [1.0, np.nan])
    np.testing.assert_array_equal(back["truth"], [1.0, np.nan])
    pd.testing.assert_extension_array_equal(back["factor"], pd.Categorical(["lo", None, "hi"], ["hi", "lo"]))
    assert back["nothing"] is None
    assert back["nested"][1]["a"].tolist() == ["b"]


def test_numbers_are_r_s_to_the_last_bit() -> None:
    rng = np.random.default_rng(1)
    X, y = rng.standard_normal((50, 3)), rng.standard_normal(50)
    ours = np.linalg.lstsq(X, y, rcond=None)[0]
    theirs = session.call("function(X, y) unname(stats::lm.fit(X, y)$coefficients)", X=X, y=y)
    # The same sums in R: rounding.
    np.testing.assert_allclose(theirs, ours, rtol=1e-12)


def test_an_error_is_r_s_message_in_one_line() -> None:
    with pytest.raises(session.RError) as caught:
        session.call("function(x) stop('no\\n  such thing')", x=np.zeros(10_000))
    assert str(caught.value) == "R: no such thing (in r_function(x = x))"
    with pytest.raises(session.RError, match="R: object 'nowhere' not found"):
        session.call("function() nowhere")
    with pytest.raises(session.RError, match="not the text of one function"):
        session.call("1 + 1")
    with pytest.raises(session.RError, match="unexpected"):
        session.call("function(")
    assert session.call("function() 1") == 1.0


def test_what_has_no_plain_form_is_named() -> None:
    with pytest.raises(session.RError, match=r"R returned its value\$f as closure"):
        session.call("function() list(f = function(x) x)")
    with pytest.raises(session.RError, match="when cannot be passed to R"):
        session.call("function(when) when", when=np.array(["2020-01-01"], dtype="datetime64[D]"))
    with pytest.raises(session.RError, match="R returned its value with a name given twice: a"):
        session.call("function() list(a = 1, a = 2)")
    with pytest.raises(session.RError, match="thing cannot be passed to R"):
        session.call("function(thing) thing", thing=object())


def test_warnings_and_output_are_caught() -> None:
    source = "function() { cat('one '); message('two'); warning('three'); warning('four'); 5 }"
    reply = session.run(source)
    assert (reply.value.tolist(), reply.warnings, reply.output) == ([5.0], ("three", "four"), "one two\n")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        session.call(source)
    assert [(item.category, str(item.message)) for item in caught] == [
        (session.RWarning, "R: three"),
        (session.RWarning, "R: four"),
    ]
    assert caught[0].filename == __file__


def test_callbacks_are_put_back_even_after_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    from rpy2.rinterface_lib import callbacks

    before = (callbacks.consolewrite_print, callbacks.consolewrite_warnerror)
    session.run("function() print(1)")
    with pytest.raises(session.RError):
        session.run("function() { print(1); stop('x') }")
    assert (callbacks.consolewrite_print, callbacks.consolewrite_warnerror) == before
    assert capsys.readouterr() == ("", "")


def test_nothing_stays_in_r() -> None:
    state = "function() list(ls(globalenv(), all.names = TRUE), search())"
    before = session.call(state)
    session.call("function() { assign('left', 1, globalenv()); library(splines); set.seed(1); rnorm(3) }")
    with pytest.raises(session.RError):
        session.call("function() { kept <<- 2; library(stats4); stop('late') }")
    after = session.call(state)
    assert [part.tolist() for part in after] == [part.tolist() for part in before]


def test_what_others_keep_in_r_stays_as_it_was() -> None:
    from rpy2 import rinterface

    session.call("function() 1")
    rinterface.evalr("theirs <- 1")
    try:
        assert session.call("function() theirs") == 1.0
        session.call("function() { theirs <<- 2; rm('theirs', envir = globalenv()) }")
        assert rinterface.evalr("theirs")[0] == 1.0
    finally:
        rinterface.evalr("rm(theirs)")


def test_arguments_may_have_any_name() -> None:
    source = "function(`a b`, names, x = 3, ...) list(`a b`, names, x, ...)"
    back = session.call(source, **{"a b": 1, "names": 2, "c": 4})
    assert {name: part.tolist() for name, part in back.items()} == {"1": [1], "2": [2], "3": [3.0], "c": [4]}
    assert session.call("function(source) source", source="s").tolist() == ["s"]


def test_threads_take_turns() -> None:
    found: dict[int, float] = {}

    def work(k: int) -> None:
        for _ in range(5):
            reply = session.run("function(k) { cat(k); x <- rep(k, 1000); gc(); sum(x) }", k=float(k))
            assert reply.output == str(k)
            found[k] = float(reply.value[0])

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {k: 1000.0 * k for k in range(4)}


def test_the_lock_lets_the_same_thread_in_again() -> None:
    with session._LOCK:
        assert session.call("function() 1") == 1.0


def test_the_interrupt_handler_is_python_s() -> None:
    before = signal.getsignal(signal.SIGINT)
    session.call("function() 1")
    assert signal.getsignal(signal.SIGINT) is before


def test_missing_packages_are_named_with_the_command() -> None:
    session.require()
    session.require("stats", "sva")
    with pytest.raises(session.RMissingError) as caught:
        session.require("stats", "noSuchPackage")
    expected = "R package noSuchPackage is missing: apt-get install r-cran-nosuchpackage"
    assert str(caught.value) == expected
    with pytest.raises(session.RMissingError, match="R packages noSuchA, noSuchB are missing: apt-get install r-"):
        session.require("noSuchA", "noSuchB")


def test_without_r_the_error_says_how_to_get_it() -> None:
    code = (
        "import os; os.environ['PATH'] = '/nowhere'; os.environ.pop('R_HOME', None)\n"
        "from r_bridge import session\n"
        "try: session.call('function() 1')\n"
        "except session.RMissingError as error: print(error)\n"
    )
    assert in_a_fresh_python(code) == "R is not installed: apt-get install r-base-core\n"


def test_sva_runs_on_the_packaged_table() -> None:
    from pycombat_gam.datasets import load_multisite

    session.require("sva")
    table = load_multisite()
    features = table.filter(regex="_(thickness|volume)$").to_numpy()
    reply = session.run(
        "function(Y, d) t(sva::ComBat(t(Y), d$site, model.matrix(~ age + sex, d)))",
        Y=features,
        d=table[["site", "age", "sex"]],
    )
    assert reply.value.shape == features.shape and np.isfinite(np.asarray(reply.value)).all()
    assert "Found" in reply.output and reply.warnings == ()


@pytest.mark.parametrize(
    "long",
    [
        "function() repeat x <- 1",
        "function() Sys.sleep(30)",
        "function() { x <- stats::rnorm(3e4); repeat mgcv::gam(x ~ s(seq_along(x), k = 40)) }",
    ],
)
def test_ctrl_c_stops_r_and_leaves_it_usable(long: str) -> None:
    printed = in_a_fresh_python(
        "import os, signal, threading, time\n"
        "from r_bridge import session\n"
        "session.call('function() loadNamespace(\"mgcv\")$gam |> is.function()')\n"
        "threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "start = time.monotonic()\n"
        f"try: session.call({long!r})\n"
        "except KeyboardInterrupt: print('stopped', time.monotonic() - start < 20)\n"
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
        "print(session.call('function(x) sum(x)', x=[1, 2])[0], len(session.call('function() ls(globalenv())')))\n"
    )
    assert printed == "stopped True\n3 0\n"


def test_ctrl_c_calls_the_handler_that_was_there() -> None:
    printed = in_a_fresh_python(
        "import os, signal, threading\n"
        "from r_bridge import session\n"
        "signal.signal(signal.SIGINT, lambda *_: print('mine'))\n"
        "session.call('function() 1')\n"
        "threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "try: session.call('function() repeat x <- 1')\n"
        "except session.RError as error: print(error)\n"
        "print(session.call('function() 2')[0])\n"
    )
    assert printed == "mine\nR: interrupted\n2.0\n"


def test_errors_in_threads_are_their_own() -> None:
    """Eight threads, some of which fail or are warned: everyone gets the own answer."""
    found: dict[int, object] = {}

    def work(i: int) -> None:
        for _ in range(20):
            if i % 3 == 0:
                try:
                    session.call(f"function() stop('thread {i}')")
                except session.RError as error:
                    found[i] = str(error)
            elif i % 3 == 1:
                reply = session.run(f"function() {{ warning('thread {i}'); cat({i}); {i} }}")
                found[i] = (reply.warnings, reply.output, reply.value[0])
            else:
                found[i] = session.call("function(x) sum(x^2)", x=np.full(1000, float(i)))[0]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(8):
        expected = (f"R: thread {i}", ((f"thread {i}",), str(i), float(i)), 1000.0 * i**2)[i % 3]
        assert found[i] == expected or (i % 3 == 0 and str(found[i]).startswith(f"R: thread {i} (in "))
