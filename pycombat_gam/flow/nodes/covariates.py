r"""Mechanisms of covariates and site, numeric or discrete, each conditional on its causes.

Both have the interface of a feature mechanism, with one number per row, so that log p(x | pa) = log p(noise) + log_det.
`causes` (n, q) are the columns that `causes.Causes` makes of a node's parents; q is 0 for a root.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import log_softmax
from zuko.transforms import MonotonicRQSTransform

from pycombat_gam.errors import DataError, DesignError
from pycombat_gam.flow.nodes.kinds import Kind
from pycombat_gam.saving.reader import Reader
from pycombat_gam.types import FloatArray, IntArray, JsonDict
from pycombat_gam.words import listing

BINS, BOUND = 8, 5.0
_SPLINE = 3 * BINS - 1
_SPLINE_SD = 0.25
"""Prior standard deviation of the spline's parameters, 0 for the identity: 50 rows then bend it little."""
_WEIGHT_SD = 30.0
"""Prior standard deviation of weights, in residual standard deviations per unit of a cause: nearly flat."""
_RIDGE = 0.5 / 10.0**2
"""Ridge on a softmax's weights, from a prior sd of 10: it keeps them finite where a cause separates the levels."""
CLEARLY = 0.05
"""Nats per row by which the linear scale must beat the log scale for positive numbers."""
_MAX_ROWS = 20_000
_FLOOR = -27.0
"""Smallest log odds of a level against the likeliest: below it, rounding would erase intervals of u."""


class CovariateMechanism(ABC):
    """The mechanism of one covariate, x = F(noise; causes)."""

    @abstractmethod
    def abduct(self, x: Tensor, causes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the noise (n,) of values x (n,), and `log_det` (n,)."""

    @abstractmethod
    def predict(self, noise: Tensor, causes: Tensor) -> Tensor:
        """Return the values (n,) of a noise (n,)."""

    @abstractmethod
    def base_log_prob(self, noise: Tensor) -> Tensor:
        """Return the log-density (n,) of a noise (n,)."""

    @abstractmethod
    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw a noise (n,)."""

    @abstractmethod
    def to_dict(self) -> JsonDict:
        """Plain data for `covariate_from_dict`."""

    def log_prob(self, x: Tensor, causes: Tensor) -> Tensor:
        """Return log p(x | causes), (n,): a log-density for numbers, a log-probability for levels."""
        noise, log_det = self.abduct(x, causes)
        return self.base_log_prob(noise) + log_det

    def sample(self, generator: torch.Generator, causes: Tensor) -> Tensor:
        """Draw one value (n,) for each row of causes (n, q)."""
        return self.predict(self.draw(len(causes), generator), causes)


@dataclass(frozen=True, eq=False)
class NumericMechanism(CovariateMechanism):
    r"""Numbers: x = Exp∘Affine∘Spline(ε), or without Exp.

    .. math:: x = \exp\big(a + w^\top c + b\, s(\varepsilon)\big), \qquad \varepsilon \sim N(0, 1),

    c the causes' columns and s a monotone rational-quadratic spline of 8 bins on [−5, 5], the identity outside (Durkan
    et al., 2019, arXiv:1906.04032), as in Wang, Chaudhari & Davatzikos (2021, arXiv:2106.06845, §3).

    Attributes
    ----------
    location : a; weights : (q,) w; scale : b > 0.
    spline : (23,) widths, heights and slopes of s⁻¹ in zuko's unconstrained form; zeros for the identity.
    positive : whether there is Exp.
    """

    location: float
    weights: Tensor
    scale: float
    spline: Tensor
    positive: bool

    def abduct(self, x: Tensor, causes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the noise (n,) of values x (n,), and log |∂ε/∂x| (n,).

        Raises
        ------
        DataError
            If a value is not above 0 and the mechanism is on the log scale.
        """
        if self.positive and not bool((x > 0).all()):
            raise DataError(f"values must be above 0, as all were in the fit; the smallest is {float(x.min()):g}")
        line = x.log() if self.positive else x
        standard = (line - self.location - causes @ self.weights) / self.scale
        noise, slope = _spline(self.spline).call_and_ladj(standard)
        log_det = slope - math.log(self.scale)
        return noise, log_det - line if self.positive else log_det

    def predict(self, noise: Tensor, causes: Tensor) -> Tensor:
        """Return the values (n,) of a noise (n,)."""
        line: Tensor = self.location + causes @ self.weights + self.scale * _spline(self.spline).inv(noise)
        return line.exp() if self.positive else line

    def base_log_prob(self, noise: Tensor) -> Tensor:
        """Return the standard normal log-density (n,)."""
        return -0.5 * (noise**2 + math.log(2.0 * math.pi))

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw standard normal numbers (n,)."""
        return torch.randn(n, generator=generator, dtype=torch.float64)

    def to_dict(self) -> JsonDict:
        """Plain data for `covariate_from_dict`."""
        return {
            "location": self.location,
            "weights": self.weights.tolist(),
            "scale": self.scale,
            "spline": self.spline.tolist(),
            "positive": self.positive,
        }


@dataclass(frozen=True, eq=False)
class DiscreteMechanism(CovariateMechanism):
    r"""Levels 0 … K−1, a Bernoulli or categorical variable: P(x = k | c) = softmax_k(b + cW).

    The noise u is uniform and x = F⁻¹(u | c), with ordered levels: the smallest k with u < P(x ≤ k | c). An observed
    level determines only an interval of u, so abduction takes its middle. Under the row's own causes that gives the
    observed level back. Under others it is the monotone coupling, one of those that no data can distinguish (Oberst &
    Sontag, 2019, arXiv:1905.05824): a counterfactual level is the level at the same quantile.

    Attributes
    ----------
    intercept : (K,) b; the logarithms of the levels' shares if q is 0.
    weights : (q, K) W.
    """

    intercept: Tensor
    weights: Tensor

    def log_pmf(self, causes: Tensor) -> Tensor:
        """Return log P(x = k | causes), (n, K)."""
        return _log_pmf(self.intercept, self.weights, causes)

    def abduct(self, x: Tensor, causes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the middle of each u's interval (n,), and the logarithm of its length, log P(x | causes), (n,)."""
        log_pmf = self.log_pmf(causes)
        level = x.long()[:, None]
        below = torch.nn.functional.pad(log_pmf.exp().cumsum(1), (1, 0))
        ends = torch.cat([below.gather(1, level), below.gather(1, level + 1)], dim=1)
        return ends.mean(dim=1), log_pmf.gather(1, level)[:, 0]

    def predict(self, noise: Tensor, causes: Tensor) -> Tensor:
        """Return the levels (n,) of a noise (n,), int64."""
        upto = self.log_pmf(causes).exp().cumsum(1)[:, :-1]
        return (upto <= noise[:, None]).sum(dim=1)

    def base_log_prob(self, noise: Tensor) -> Tensor:
        """Return the uniform log-density (n,), 0."""
        return torch.zeros_like(noise)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw uniform numbers (n,)."""
        return torch.rand(n, generator=generator, dtype=torch.float64)

    def to_dict(self) -> JsonDict:
        """Plain data for `covariate_from_dict`."""
        return {"intercept": self.intercept.tolist(), "weights": self.weights.tolist()}


def fit_covariate(
    kind: Kind,
    values: FloatArray | IntArray,
    causes: Tensor,
    *,
    name: str,
    levels: Sequence[object] = (),
) -> CovariateMechanism:
    """Fit the mechanism of a node by penalised maximum likelihood, over all rows at once by L-BFGS.

    Rows are sorted first, so that their order in the table changes nothing. Of more than 20,000 rows, 20,000 are used,
    evenly spaced in the sorted order.

    Parameters
    ----------
    kind : of the node.
    values : (n,) numbers, or codes of `levels`.
    causes : (n, q) columns of its parents.
    name : for messages.
    levels : of a discrete node.

    Raises
    ------
    DesignError
        If numbers are constant or an exact linear function of the causes, or a level has no rows.
    """
    x, columns = np.asarray(values, dtype=np.float64), causes.numpy()
    order = np.lexsort((*columns.T, x))
    if kind == "numeric":
        if len(x) > _MAX_ROWS:
            order = order[((np.arange(_MAX_ROWS) + 0.5) * (len(x) / _MAX_ROWS)).astype(np.intp)]
        return _fit_numeric(x[order], columns[order], name)
    counts = np.bincount(np.asarray(values, dtype=np.intp), minlength=len(levels))
    if not counts.all():
        empty = listing(repr(level) for level, number in zip(levels, counts, strict=True) if number == 0)
        raise DesignError(f"no row that estimates has '{name}' = {empty}: include some, or recode the column")
    return _fit_discrete(torch.from_numpy(x[order]).long(), torch.from_numpy(columns[order]), counts)


def _fit_numeric(x: FloatArray, columns: FloatArray, name: str) -> NumericMechanism:
    if x[0] == x[-1]:
        raise DesignError(f"'{name}' has the same value, {x[0]:g}, in every row: there is nothing to model")
    line = _fit_on_scale(x, columns, positive=False, name=name)
    if not x[0] > 0:
        return line[0]
    exp = _fit_on_scale(np.log(x), columns, positive=True, name=name)
    # Draws of a positive covariate should not be negative, unless the linear scale fits clearly better.
    return line[0] if line[1] < exp[1] - CLEARLY * len(x) else exp[0]


def _fit_on_scale(
    line: FloatArray, columns: FloatArray, *, positive: bool, name: str
) -> tuple[NumericMechanism, float]:
    """Fit on the linear or, from logarithms, on the log scale; return the penalised loss on the scale of x too."""
    n, q = columns.shape
    mean, sd = float(line.mean()), float(line.std())
    y, c = torch.from_numpy((line - mean) / sd), torch.from_numpy(columns)
    basis = np.column_stack([np.ones(n), columns])
    start = np.linalg.lstsq(basis, y.numpy(), rcond=None)[0]
    residual = float(np.std(y.numpy() - basis @ start))
    if residual < 1e-6:
        raise DesignError(
            f"'{name}' is an exact linear function of its causes ({n} rows): remove an edge to it, or a column"
        )
    theta = torch.from_numpy(np.concatenate([start, [math.log(residual)], np.zeros(_SPLINE)]))

    def loss(theta: Tensor) -> Tensor:
        standard = (y - theta[0] - c @ theta[1 : q + 1]) * torch.exp(-theta[q + 1])
        noise, slope = _spline(_SPLINE_SD * theta[q + 2 :]).call_and_ladj(standard)
        fit: Tensor = (0.5 * noise**2 - slope).sum() + n * theta[q + 1]
        weights = theta[1 : q + 1] * torch.exp(-theta[q + 1])
        return fit + 0.5 * (theta[q + 2 :] ** 2).sum() + 0.5 * (weights**2).sum() / _WEIGHT_SD**2

    theta, smallest = minimise(loss, theta, n)
    mechanism = NumericMechanism(
        location=mean + sd * float(theta[0]),
        weights=sd * theta[1 : q + 1],
        scale=sd * math.exp(float(theta[q + 1])),
        spline=_SPLINE_SD * theta[q + 2 :],
        positive=positive,
    )
    return mechanism, smallest + n * math.log(sd) + (float(line.sum()) if positive else 0.0)


def _fit_discrete(x: Tensor, columns: Tensor, counts: IntArray) -> DiscreteMechanism:
    """Fit b and W; b is not penalised, so that mean probabilities equal the levels' shares."""
    (n, q), k = columns.shape, len(counts)
    intercept = torch.from_numpy(np.log(counts / n))
    if q == 0:
        return DiscreteMechanism(intercept, torch.zeros((0, k), dtype=torch.float64))

    def loss(theta: Tensor) -> Tensor:
        weights = theta[k:].reshape(q, k)
        fit = _log_pmf(theta[:k], weights, columns).gather(1, x[:, None]).sum()
        return _RIDGE * (weights**2).sum() - fit

    theta, _ = minimise(loss, torch.cat([intercept, torch.zeros(q * k, dtype=torch.float64)]), n)
    return DiscreteMechanism(theta[:k].clone(), theta[k:].reshape(q, k).clone())


def minimise(loss: Callable[[Tensor], Tensor], start: Tensor, n: int) -> tuple[Tensor, float]:
    """Minimise a smooth sum over n rows by L-BFGS with strong Wolfe line search; return argument and minimum."""
    theta = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [theta],
        max_iter=500,
        max_eval=1000,
        history_size=30,
        tolerance_grad=1e-7,
        tolerance_change=1e-11,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(theta) / n
        value.backward()  # type: ignore[no-untyped-call]  # torch has no types here
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]  # torch has no types here
    with torch.no_grad():
        return theta.detach(), float(loss(theta))


def _spline(numbers: Tensor) -> MonotonicRQSTransform:
    """s⁻¹ of the docstring of `NumericMechanism`."""
    widths, heights, slopes = numbers[:BINS], numbers[BINS : 2 * BINS], numbers[2 * BINS :]
    return MonotonicRQSTransform(widths, heights, slopes, bound=BOUND)


def _log_pmf(intercept: Tensor, weights: Tensor, causes: Tensor) -> Tensor:
    logits = intercept + causes @ weights
    return log_softmax((logits - logits.max(dim=1, keepdim=True).values).clamp(min=_FLOOR), dim=1)


def covariate_from_dict(data: object, kind: Kind, q: int, levels: int) -> CovariateMechanism:
    """Rebuild a mechanism from plain data, with all of it checked.

    Parameters
    ----------
    data : what `to_dict` returned.
    kind : of its node; q : number of its causes' columns; levels : number of a discrete node's levels.

    Raises
    ------
    ModelFileError
        If anything is missing, superfluous, of the wrong kind or at odds with the node.
    """
    saved = Reader(data, "the saved mechanism of a covariate")
    if kind == "numeric":
        saved.exactly("location", "weights", "scale", "spline", "positive")
        return NumericMechanism(
            saved.number("location"),
            _tensor(saved.array("weights", (q,))),
            saved.number("scale", positive=True),
            _tensor(saved.array("spline", (_SPLINE,))),
            saved.flag("positive"),
        )
    saved.exactly("intercept", "weights")
    return DiscreteMechanism(_tensor(saved.array("intercept", (levels,))), _tensor(saved.array("weights", (q, levels))))


def _tensor(numbers: object) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)
