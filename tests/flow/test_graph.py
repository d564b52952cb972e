"""The graph: its order, its kinds, what it refuses; actions checked and coded; hostile saved graphs."""

from __future__ import annotations

import copy
import json

import numpy as np
import pandas as pd
import pytest

from pycombat_gam.errors import DataError, DesignError, ModelFileError, OptionError, PcgError
from pycombat_gam.flow.nodes.graph import Graph
from pycombat_gam.formula import parse_formula
from pycombat_gam.formula.roles import factor_columns

VARIABLES = ["age", "sex", "icv", "dx", "smoker", "wave"]


def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "site": ["NYU", "UCLA", "KKI", "NYU", "KKI", "UCLA"],
            "age": [10, 12, 9, 30, 25, 41],
            "sex": ["F", "M", "M", "F", "F", "M"],
            "icv": [1400.5, 1501.0, 1480.0, 1620.0, 1333.0, 1555.0],
            "dx": np.array([0, 1, 1, 0, 0, 1], dtype=np.int8),
            "smoker": [True, False, False, True, False, False],
            "wave": [1, 2, 3, 3, 2, 1],
            "group": pd.Categorical(list("abcabc"), categories=["c", "b", "a", "z"]),
            "subject": list("uvwxyz"),
            "thick": np.arange(6.0),
        }
    )


def learn(edges: object = None, variables: list[str] = VARIABLES, **options: object) -> Graph:
    return Graph.learn(
        variables, "site", options.pop("table", table()), edges, features=["thick"], ids=["subject"], **options
    )


def test_by_default_every_covariate_and_the_site_are_roots() -> None:
    graph = learn()
    assert graph.nodes == (*VARIABLES, "site")
    assert set(graph.parents.values()) == {()}
    assert graph.descendants(["age"]) == ()


def test_kinds_and_levels() -> None:
    graph = learn(variables=[*VARIABLES, "group"], factors=["wave"])
    assert graph.kinds == {
        "age": "numeric",
        "sex": "binary",
        "icv": "numeric",
        "dx": "binary",
        "smoker": "binary",
        "wave": "categorical",
        "group": "categorical",
        "site": "categorical",
    }
    assert graph.levels == {
        "sex": ("F", "M"),
        "dx": (0, 1),
        "smoker": (False, True),
        "wave": (1, 2, 3),
        "group": ("c", "b", "a"),
        "site": ("KKI", "NYU", "UCLA"),
    }
    assert learn().kinds["wave"] == "numeric"


def test_causes_come_first_and_ties_follow_the_formula() -> None:
    edges = {"age": ["sex", "dx"], "icv": ["age", "sex"], "site": ["age"], "sex": ["smoker"]}
    graph = learn(edges)
    assert graph.nodes == ("dx", "smoker", "sex", "age", "icv", "wave", "site")
    assert graph.parents["icv"] == ("sex", "age") and graph.parents["age"] == ("dx", "sex")
    turned = {child: causes[::-1] for child, causes in reversed(edges.items())}
    shuffled = table().sample(frac=1, random_state=np.random.RandomState(3))
    assert learn(turned, table=shuffled) == graph
    assert graph.descendants(["smoker"]) == ("sex", "age", "icv", "site")
    assert graph.descendants(["smoker", "age"]) == ("sex", "icv", "site")


@pytest.mark.parametrize("name", [*VARIABLES, "group", "site"])
def test_coding_is_undone(name: str) -> None:
    graph, data = learn(variables=[*VARIABLES, "group"], factors=["wave"]), table()
    codes = graph.encode(name, data[name])
    back = graph.decode(name, codes)
    assert back.tolist() == data[name].tolist()
    assert codes.dtype == (np.float64 if graph.kinds[name] == "numeric" else np.intp)
    if name in ("dx", "smoker", "wave"):
        assert back.dtype == data[name].dtype


def test_other_spellings_of_a_level_are_read() -> None:
    graph = learn()
    assert graph.encode("dx", pd.Series(["0", "1.0"])).tolist() == [0, 1]
    assert graph.encode("smoker", pd.Series([0, 1])).tolist() == [0, 1]
    numbered = learn(table=table().assign(site=[1.0, 2, 3, 1, 3, 2]))
    assert numbered.levels["site"] == ("1", "2", "3")
    assert numbered.encode("site", pd.Series([3, 1])).tolist() == [2, 0]
    assert numbered.check_do({"site": 2}, 2)["site"].tolist() == [1, 1]


def test_factor_columns() -> None:
    formula = parse_formula("~ I(age^2) + factor(wave):relevel(sex, ref='M') + s(icv, by=ordered(dx)) + (1 | fam)")
    assert factor_columns(formula) == ("wave", "sex", "dx", "fam")


BAD_EDGES = [
    ({"icv": ["age"], "age": ["sex"], "sex": ["icv"]}, DesignError, "a cycle: age → icv → sex → age; take one"),
    ({"icv": ["agee"]}, OptionError, "'agee' is no node.*did you mean 'age'"),
    ({"volume": ["age"]}, OptionError, "'volume' is no node.*age, sex, icv, dx, smoker, wave, site"),
    ({"icv": ["icv"]}, OptionError, "'icv' is among its own causes"),
    ({"thick": ["icv"]}, OptionError, "'thick' is a feature"),
    ({"icv": ["subject"]}, OptionError, "'subject' identifies rows"),
    ({"icv": "age"}, OptionError, "the causes of 'icv' are 'age'; give a list"),
    ({"icv": None}, OptionError, "the causes of 'icv' are None; give a list"),
    ({"icv": ["age", "age"]}, OptionError, "the causes of 'icv' name 'age' twice"),
    ({"icv": [3]}, OptionError, "3 is no node"),
    (["icv"], OptionError, "give causes by effect"),
]


@pytest.mark.parametrize(("edges", "kind", "message"), BAD_EDGES)
def test_bad_edges(edges: object, kind: type[PcgError], message: str) -> None:
    with pytest.raises(kind, match=message):
        learn(edges)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"age": [1.0, np.nan, 3, 4, 5, 6]}, DataError, "'age' has missing values in 1 row .index 1"),
        ({"age": [1.0, np.inf, 3, 4, 5, 6]}, DataError, "'age' is infinite"),
        ({"age": 7}, DesignError, "'age' has the same value, 7, in every row"),
        ({"sex": "F"}, DesignError, "'sex' has only one level"),
        ({"sex": [None, "F", "M", "F", "M", "F"]}, DataError, "'sex' has missing values"),
        ({"sex": ["", "F", "M", "F", "M", "F"]}, DataError, "'sex' has blank cells"),
        ({"site": [None, "a", "b", "a", "b", "a"]}, DataError, "'site' has missing values"),
        ({"site": "a"}, DataError, "one batch"),
    ],
)
def test_bad_columns(change: dict[str, object], kind: type[PcgError], message: str) -> None:
    with pytest.raises(kind, match=message):
        learn(table=table().assign(**change))


def test_what_cannot_be_a_node() -> None:
    with pytest.raises(DesignError, match="'subject' cannot be a node of the graph: it identifies rows"):
        learn(variables=["age", "subject"])
    with pytest.raises(DesignError, match="'thick' cannot be a node of the graph: it is a feature"):
        learn(variables=["thick"])
    with pytest.raises(DataError, match="aeg, which is not a column of the table; did you mean 'age'"):
        learn(variables=["aeg"])


def test_encoding_refuses_what_the_fit_did_not_see() -> None:
    graph = learn()
    with pytest.raises(DataError, match=r"column 'sex' has a level not known from the fit: 'X' in 1 row \(index 5\)"):
        graph.encode("sex", pd.Series(["F", "X"], index=[4, 5]))
    with pytest.raises(DataError, match="a site that the fit did not see: 'Oslo'; known are KKI, NYU, UCLA"):
        graph.encode("site", pd.Series(["Oslo", "NYU"]))
    with pytest.raises(DataError, match="'age' held numbers in the fit and now 'old'"):
        graph.encode("age", pd.Series(["old", "old"]))


def test_actions() -> None:
    graph = learn()
    done = graph.check_do({"site": "NYU", "age": 30, "smoker": True, "dx": np.int64(1)}, 3)
    assert list(done) == ["age", "dx", "smoker", "site"]
    assert [done[name].tolist() for name in done] == [[30.0] * 3, [1] * 3, [1] * 3, [1] * 3]
    assert done["age"].dtype == np.float64 and done["site"].dtype == np.intp
    rows = graph.check_do({"age": [1, 2, 3], "site": pd.Series(["KKI", "NYU", "KKI"]), "dx": np.array(0)}, 3)
    assert rows["age"].tolist() == [1.0, 2.0, 3.0] and rows["site"].tolist() == [0, 1, 0]
    assert rows["dx"].tolist() == [0, 0, 0]
    assert graph.check_do({}, 3) == {}


BAD_ACTIONS = [
    ({"sitee": "NYU"}, "'sitee' is no node; .*did you mean 'site'"),
    ({"thick": 1.0}, "'thick' is no node"),
    ({"site": "NYUU"}, "'NYUU' is no site; the fit has KKI, NYU, UCLA; did you mean 'NYU'"),
    ({"sex": "m"}, "'m' is no level of 'sex'; the fit has F, M; did you mean 'M'"),
    ({"dx": 2}, "'2' is no level of 'dx'"),
    ({"age": float("nan")}, "'age' is missing; give a value"),
    ({"age": float("inf")}, "'age' is infinite"),
    ({"age": "30"}, "'age' is numeric, but the values are '30'"),
    ({"age": True}, "'age' is numeric, but the values are True"),
    ({"age": None}, "'age' is None; give one value"),
    ({"age": {"a": 1}}, "'age' is {'a': 1}; give one value"),
    ({"age": [1.0, 2.0]}, "'age' has 2 values for 3 rows"),
    ({"age": np.ones((3, 1))}, r"'age' has an array of shape \(3, 1\) for 3 rows"),
    ({"age": [1.0, None, 2.0]}, "'age' is missing in 1 row, the first at position 1"),
    ({"site": ["NYU", None, "KKI"]}, "'site' is missing in 1 row, the first at position 1"),
    ("site", "do='site' is not allowed: give values by node"),
]


@pytest.mark.parametrize(("do", "message"), BAD_ACTIONS)
def test_bad_actions(do: object, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        learn().check_do(do, 3)


def test_a_series_must_have_the_index_of_the_table() -> None:
    index = pd.Index(["a", "b"])
    ages = pd.Series([30.0, 40.0], index=["b", "a"])
    with pytest.raises(OptionError, match="'age' is a Series with another index"):
        learn().check_do({"age": ages}, 2, index)
    assert learn().check_do({"age": ages.set_axis(index)}, 2, index)["age"].tolist() == [30.0, 40.0]


def saved() -> dict[str, object]:
    graph = learn({"icv": ["age", "sex"]}, variables=[*VARIABLES, "group"], factors=["wave"])
    return json.loads(json.dumps(graph.to_dict()))


def test_saved_graphs_come_back() -> None:
    graph = learn({"icv": ["age", "sex"]}, variables=[*VARIABLES, "group"], factors=["wave"])
    again = Graph.from_dict(saved())
    assert again == graph and again.levels["smoker"] == (False, True)
    assert again.decode("dx", np.array([1, 0])).dtype == np.int8


def node(data: dict[str, object], name: str) -> dict[str, object]:
    return next(one for one in data["nodes"] if one["name"] == name)


HOSTILE = {
    "another batch": lambda d: d.update(batch="nowhere"),
    "a batch that is no text": lambda d: d.update(batch=3),
    "a numeric batch": lambda d: d.update(batch="age"),
    "no nodes": lambda d: d.update(nodes=[]),
    "nodes of another kind": lambda d: d.update(nodes={"a": 1}),
    "more": lambda d: d.update(more=1),
    "a node that is text": lambda d: d["nodes"].append("age"),
    "a node twice": lambda d: d["nodes"].append(dict(d["nodes"][0])),
    "a cycle": lambda d: node(d, "age").update(parents=["icv"]),
    "itself": lambda d: node(d, "icv").update(parents=["icv"]),
    "parents out of order": lambda d: node(d, "icv").update(parents=["sex", "age"]),
    "parents twice": lambda d: node(d, "icv").update(parents=["age", "age"]),
    "parents of another kind": lambda d: node(d, "icv").update(parents=[["age"]]),
    "no parents": lambda d: node(d, "icv").pop("parents"),
    "an unknown kind": lambda d: node(d, "age").update(kind="ordinal"),
    "a kind of another type": lambda d: node(d, "age").update(kind=["numeric"]),
    "levels of a number": lambda d: node(d, "age").update(levels=["a", "b"]),
    "no levels": lambda d: node(d, "sex").pop("levels"),
    "one level": lambda d: node(d, "sex").update(levels=["F"]),
    "three levels of two": lambda d: node(d, "sex").update(levels=["F", "M", "X"]),
    "equal levels": lambda d: node(d, "sex").update(levels=["F", "F"]),
    "mixed levels": lambda d: node(d, "sex").update(levels=["F", 1]),
    "levels that are lists": lambda d: node(d, "sex").update(levels=[["F"], ["M"]]),
    "levels not finite": lambda d: node(d, "dx").update(levels=[0.5, float("nan")]),
    "levels beyond their type": lambda d: node(d, "dx").update(levels=[0, 10**30]),
    "a blank level": lambda d: node(d, "sex").update(levels=["F", " "]),
    "sites that are numbers": lambda d: node(d, "site").update(levels=[1, 2, 3]),
    "sites misspelled": lambda d: node(d, "site").update(levels=["1.0", "2"]),
    "an unknown type": lambda d: node(d, "dx").update(dtype="V8"),
    "a type of text": lambda d: node(d, "dx").update(dtype="U5"),
    "a type for text": lambda d: node(d, "sex").update(dtype="object"),
    "no type": lambda d: node(d, "dx").pop("dtype"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_graphs_are_refused(name: str) -> None:
    data = copy.deepcopy(saved())
    HOSTILE[name](data)
    with pytest.raises(ModelFileError):
        Graph.from_dict(data)


@pytest.mark.parametrize("data", [None, [], "graph", {}, {"batch": "site"}])
def test_what_is_no_graph_is_refused(data: object) -> None:
    with pytest.raises(ModelFileError, match="the saved graph must hold exactly batch, nodes"):
        Graph.from_dict(data)
