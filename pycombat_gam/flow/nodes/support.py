"""The support of the fit: ranges of numbers and observed levels, over all rows and by site.

Beyond the support a model extrapolates, and a query says so. Three things are checked: each covariate over the whole
fit, each covariate at a site, and pairs of covariates at a site, at least one of them discrete. Unusual combinations of
two numbers are not checked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pycombat_gam.flow.nodes.graph import Graph
from pycombat_gam.formula.columns import label_of
from pycombat_gam.saving.reader import Reader
from pycombat_gam.types import BoolArray, FloatArray, IntArray, JsonDict
from pycombat_gam.words import count, listing

Coded = Mapping[str, FloatArray | IntArray]

ROUNDING = 1e-9
"""Tolerance, as a share of a range: values that the graph recomputes differ from the fit's by rounding."""
CHANCE = 3.0
"""The range of m random rows of a site falls short of the site's range by more than CHANCE/m of its width in
exp(−CHANCE) = 5 % of cases. The range of a level's rows is widened by that much."""
SITES_NAMED = 4
NO_SITES = (
    "the model was saved by a version without the ranges of single sites, so covariates are not checked against the "
    "range of their site; fit again for that check"
)


@dataclass(frozen=True, eq=False)
class Support:
    """Ranges and levels of the covariates: N numeric ones, and L levels of the discrete ones together; B sites.

    Attributes
    ----------
    numeric : (N,) their names; discrete : name and code of each level, (L,).
    whole : (N, 2) smallest and largest value in the fit.
    ranges : (N, B, 1 + L, 2) the same at each site, and among the site's rows of each level; NaN where there are none.
    together : (B, L, L) number of a site's rows of both levels; on the diagonal, of one.
    `ranges` and `together` are None for a model saved by an older version.
    """

    numeric: tuple[str, ...]
    discrete: tuple[tuple[str, int], ...]
    whole: FloatArray
    ranges: FloatArray | None
    together: IntArray | None

    @classmethod
    def learn(cls, graph: Graph, coded: Coded) -> Support:
        """Learn from the nodes' values, coded as `Graph.encode` does."""
        numeric, discrete = _columns(graph)
        values = [np.asarray(coded[name], dtype=np.float64) for name in numeric]
        whole = np.array([[x.min(), x.max()] for x in values]).reshape(len(numeric), 2)
        sites = range(len(graph.levels[graph.batch]))
        ranges, together = zip(
            *(_of_rows(numeric, discrete, coded, coded[graph.batch] == b) for b in sites), strict=True
        )
        return cls(numeric, discrete, whole, np.stack(ranges, axis=1), np.stack(together))

    @classmethod
    def of_profile(cls, graph: Graph, profile: JsonDict) -> Support:
        """Return the support in an older model file: the ranges over all rows."""
        numeric, discrete = _columns(graph)
        ends = [profile["covariates"][name] for name in numeric]
        whole = np.array([[float(end["min"]), float(end["max"])] for end in ends]).reshape(len(numeric), 2)
        return cls(numeric, discrete, whole, None, None)

    @classmethod
    def read(cls, saved: Reader, graph: Graph, profile: JsonDict) -> Support:
        """Rebuild from saved arrays.

        Raises
        ------
        ModelFileError
            If they do not match the graph.
        """
        known = cls.of_profile(graph, profile)
        N, L, B = len(known.numeric), len(known.discrete), len(graph.levels[graph.batch])
        ranges = saved.array("ranges", (N, B, 1 + L, 2), finite=False)
        together = saved.array("together", (B, L, L), "i")
        low, high = ranges[..., 0], ranges[..., 1]
        # A site without rows of a level has no range there: both ends are missing, or neither.
        absent = np.isnan(low) & np.isnan(high)
        absent[:, :, 0] = False
        sound = absent | (np.isfinite(low) & np.isfinite(high) & (low <= high))
        saved.require(sound.all(), "have a range of each numeric covariate at each site")
        saved.require(saved.value("together").dtype == np.int64 and (together >= 0).all(), "count rows of two levels")
        return replace(known, ranges=ranges, together=together)

    def with_site(self, coded: Coded) -> Support:
        """Return the support with one more site, whose rows these are; the rest stays."""
        if self.ranges is None or self.together is None:
            return self
        n = len(next(iter(coded.values())))
        ranges, together = _of_rows(self.numeric, self.discrete, coded, np.ones(n, dtype=bool))
        return replace(
            self,
            ranges=np.concatenate([self.ranges, ranges[:, None]], axis=1),
            together=np.concatenate([self.together, together[None]]),
        )

    def unknown(self) -> list[str]:
        """Say what is not checked for a model from an older file."""
        return [NO_SITES] if self.ranges is None else []

    def outside(self, graph: Graph, coded: Coded, names: Collection[str] | None = None) -> list[str]:
        """Say how many rows lie outside the range of the fit, by covariate: all of them, or those named."""
        notes = []
        for i, name in enumerate(self.numeric):
            rows = int((~self._inside(i, coded)).sum()) if names is None or name in names else 0
            if rows:
                low, high = self.whole[i]
                notes.append(
                    f"{name} is outside the range of the fit ({low:.6g} to {high:.6g}) in {count(rows, 'row')}: "
                    "extrapolated"
                )
        for name in dict.fromkeys(name for name, _ in self.discrete):
            # The formula treats a column of two numbers as linear, so other values are extrapolated.
            rows = int((np.asarray(coded[name]) < 0).sum())
            if rows:
                notes.append(
                    f"{name} is none of the fit's values ({listing(graph.levels[name], 4)}) in {count(rows, 'row')}: "
                    "extrapolated"
                )
        return notes

    def at_sites(self, graph: Graph, coded: Coded, site: IntArray, names: Collection[str] | None = None) -> list[str]:
        """Say which rows are at a site that had no similar rows.

        Rows outside the range of the whole fit are left out: `outside` names them.

        Parameters
        ----------
        coded : the nodes' values; site : (n,) codes of the rows' own or target sites.
        names : covariates, at least one of which must be involved; None for any.
        """
        if self.ranges is None or self.together is None or not len(site):
            return []
        labels = graph.levels[graph.batch]
        has = [coded[name] == code for name, code in self.discrete]
        of_level = [self.together[site, j, j] for j in range(len(self.discrete))]
        occurs = [rows > 0 for rows in of_level]
        about = [names is None or name in names for name, _ in self.discrete]
        called = [f"{name} '{label_of(graph.levels[name][code])}'" for name, code in self.discrete]

        def at(rows: BoolArray, named: Sequence[str]) -> str:
            sites, counts = np.unique(site[rows], return_counts=True)
            places = [f"{named[b]} ({count(int(n), 'row')})" for b, n in zip(sites, counts, strict=True)]
            return listing(places, SITES_NAMED)

        notes = []
        for i, name in enumerate(self.numeric):
            x = np.asarray(coded[name], dtype=np.float64)
            inside, here = self._inside(i, coded), self._within(i, x, site, 0)
            for column, among in enumerate(("", *(f"{level} at " for level in called))):
                slack: FloatArray | float = 0.0
                if column:
                    low, high = self.ranges[i, site, 0].T
                    slack = CHANCE * (high - low) / np.maximum(of_level[column - 1], 1)
                rows = inside & ~self._within(i, x, site, column, slack)
                if not (names is None or name in names or (column and about[column - 1])):
                    continue
                if column:
                    rows &= here & has[column - 1] & occurs[column - 1]
                if rows.any():
                    ends = self.ranges[i, :, column]
                    texts = [
                        f"{among}site '{labels[b]}', {low:.6g} to {high:.6g}" for b, (low, high) in enumerate(ends)
                    ]
                    notes.append(f"{name} is outside the range of {at(rows, texts)}")
        texts = [f"site '{label}'" for label in labels]
        for j, k, rows in self._absent(has, occurs, site):
            if not (about[j] or about[k]):
                continue
            what = called[j] if j == k else f"{called[j]} with {called[k]}"
            notes.append(f"{what} does not occur at {at(rows, texts)}")
        return notes

    def _absent(
        self, has: list[BoolArray], occurs: list[BoolArray], site: IntArray
    ) -> Iterator[tuple[int, int, BoolArray]]:
        """Yield levels (twice the same), then pairs of levels, of rows whose site has none of them."""
        assert self.together is not None
        for j, rows in enumerate(has):
            if (absent := rows & ~occurs[j]).any():
                yield j, j, absent
        for j in range(len(has)):
            for k in range(j + 1, len(has)):
                both = has[j] & has[k] & occurs[j] & occurs[k] & (self.together[site, j, k] == 0)
                if both.any():
                    yield j, k, both

    def _inside(self, i: int, coded: Coded) -> BoolArray:
        return _between(np.asarray(coded[self.numeric[i]], dtype=np.float64), self.whole[i], self._slack(i))

    def _within(self, i: int, x: FloatArray, site: IntArray, column: int, slack: FloatArray | float = 0.0) -> BoolArray:
        assert self.ranges is not None
        return _between(x, self.ranges[i, site, column].T, self._slack(i) + slack)

    def _slack(self, i: int) -> float:
        return ROUNDING * float(self.whole[i, 1] - self.whole[i, 0])


def _between(x: FloatArray, ends: FloatArray, slack: FloatArray | float) -> BoolArray:
    return np.asarray((x >= ends[0] - slack) & (x <= ends[1] + slack))


def _columns(graph: Graph) -> tuple[tuple[str, ...], tuple[tuple[str, int], ...]]:
    covariates = [name for name in graph.nodes if name != graph.batch]
    numeric = tuple(name for name in covariates if graph.kinds[name] == "numeric")
    others = [name for name in covariates if graph.kinds[name] != "numeric"]
    return numeric, tuple((name, code) for name in others for code in range(len(graph.levels[name])))


def _of_rows(
    numeric: Sequence[str], discrete: Sequence[tuple[str, int]], coded: Coded, rows: BoolArray
) -> tuple[FloatArray, IntArray]:
    """Return the ranges (N, 1 + L, 2) of some rows, and their counts by pairs of levels (L, L)."""
    has = [rows & (coded[name] == code) for name, code in discrete]
    ranges = np.full((len(numeric), 1 + len(has), 2), np.nan)
    for i, name in enumerate(numeric):
        x = np.asarray(coded[name], dtype=np.float64)
        for column, some in enumerate((rows, *has)):
            if some.any():
                ranges[i, column] = x[some].min(), x[some].max()
    indicators = np.array(has, dtype=bool).reshape(len(has), len(rows)).astype(np.float64)
    return ranges, np.rint(indicators @ indicators.T).astype(np.int64)
