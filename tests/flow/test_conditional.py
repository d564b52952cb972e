"""The paper's family: invertible, a density, one-hot in its sites, the same by seed, adaptable to one more site."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from helpers.conditional_cases import FLOWS, SITES, flow_of, guest, normal, parents_of, shake, study
from torch import Tensor, nn

from pycombat_gam.errors import OptionError
from pycombat_gam.flow.mechanisms.conditional import ConditionalFlow, conditional, from_config
from pycombat_gam.flow.mechanisms.mechanism import FeatureMechanism, Parents
from pycombat_gam.flow.networks.network import Network

EVERY = pytest.mark.parametrize(("family", "spline"), FLOWS)


@pytest.fixture(autouse=True)
def _guest() -> Iterator[None]:
    with guest():
        yield


@EVERY
@pytest.mark.parametrize("features", [1, 2, 7, 20])
def test_invertible(family: str, spline: str | None, features: int) -> None:
    """Composition and reversibility: do(own site) is the identity, A→B→A comes back. The law asks for 1e-6."""
    flow, parents, x = flow_of(family, spline, features), parents_of(60), 2 * normal(60, features, seed=3)
    shake(flow)
    with torch.no_grad():
        noise, _ = flow.abduct(x, parents)
        torch.testing.assert_close(flow.predict(noise, parents), x, rtol=0, atol=1e-9)
        there = flow.predict(noise, parents.at(2))
        again, _ = flow.abduct(there, parents.at(2))
        # Rounding through up to 20 features in a row and slopes down to 1e-3.
        torch.testing.assert_close(flow.predict(again, parents), x, rtol=0, atol=1e-8)


@EVERY
def test_log_determinant_is_autograds(family: str, spline: str | None) -> None:
    flow, parents, x = flow_of(family, spline, 5), parents_of(4), 2 * normal(4, 5, seed=4)
    shake(flow)
    _, log_det = flow.abduct(x, parents)
    for row in range(4):
        own = parents.rows(slice(row, row + 1))
        jacobian = torch.autograd.functional.jacobian(lambda v, own=own: flow.abduct(v[None], own)[0][0], x[row])
        expected = torch.linalg.slogdet(jacobian).logabsdet
        torch.testing.assert_close(log_det[row], expected, rtol=0, atol=1e-10)  # rounding of a 5×5 determinant


@EVERY
@pytest.mark.parametrize("base", ["normal", "student_t"])
def test_density_integrates_to_one_in_one_dimension(family: str, spline: str | None, base: str) -> None:
    flow, parents = flow_of(family, spline, 1, base=base), parents_of(1)
    shake(flow, by=0.2)
    grid = torch.sinh(torch.linspace(-9, 9, 100_001, dtype=torch.float64))[:, None]
    many = Parents(parents.design.expand(len(grid), -1), parents.site.expand(len(grid)))
    with torch.no_grad():
        total = torch.trapezoid(flow.log_prob(grid, many).exp(), grid[:, 0])
    # Trapezoid over a density with kinks in its derivative; a t's tail beyond 4000 is below 1e-7.
    assert abs(float(total) - 1) < 1e-5


@EVERY
def test_density_integrates_to_one_in_two_dimensions(family: str, spline: str | None) -> None:
    flow, parents = flow_of(family, spline, 2), parents_of(1)
    shake(flow, by=0.15)
    line = torch.linspace(-12, 12, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    many = Parents(parents.design.expand(len(grid), -1), parents.site.expand(len(grid)))
    with torch.no_grad():
        density = flow.log_prob(grid, many).exp().reshape(401, 401)
        total = torch.trapezoid(torch.trapezoid(density, line), line)
    assert abs(float(total) - 1) < 1e-3  # a grid step of 0.06 where splines have slopes of several per step


@pytest.mark.parametrize("base", ["normal", "student_t"])
def test_base_has_unit_variance_and_the_density_of_scipy(base: str) -> None:
    from scipy import stats

    flow, noise = flow_of("affine", None, 3, base=base), normal(10, 3, seed=6)
    if flow.df is None:
        expected = stats.multivariate_normal(np.zeros(3)).logpdf(noise.numpy())
    else:
        df = float(flow.df.detach())
        expected = stats.multivariate_t(np.zeros(3), (df - 2) / df * np.eye(3), df).logpdf(noise.numpy())
    np.testing.assert_allclose(flow.base_log_prob(noise).detach(), expected, atol=1e-12)  # rounding
    drawn = flow.draw(40_000, np.random.default_rng(1))
    # Four standard errors of a variance: kurtosis 4 of t with 10 degrees of freedom, n = 40,000.
    assert (drawn.var(0) - 1).abs().max() < 0.04
    assert torch.equal(drawn, flow.draw(40_000, np.random.default_rng(1)))


@EVERY
def test_starts_as_the_linear_model(family: str, spline: str | None) -> None:
    """Untrained, any family is x = c W + M_site + exp(A_site) ε."""
    flow, parents, x = flow_of(family, spline, 4), parents_of(30), normal(30, 4, seed=7)
    W, M, A = normal(3, 4, seed=8), normal(SITES, 4, seed=9), 0.3 * normal(SITES, 4, seed=10)
    flow.start(W, M, A)
    expected = (x - parents.design @ W - M[parents.site]) / A[parents.site].exp()
    torch.testing.assert_close(flow.abduct(x, parents)[0], expected, rtol=0, atol=1e-13)  # rounding


@EVERY
def test_gradient_does_not_depend_on_site_labels(family: str, spline: str | None) -> None:
    """Sites start equal in every network, so a step of training with renamed sites is the same step, renamed."""
    x, parents, rename = normal(40, 3, seed=11), parents_of(40), torch.tensor([2, 0, 3, 1])
    values = []
    for site in (parents.site, rename[parents.site]):
        flow, own = flow_of(family, spline, 3), Parents(parents.design, site)
        optimizer = torch.optim.SGD(flow.parameters(), lr=1e-2)
        for _ in range(3):
            optimizer.zero_grad()
            flow.loss(x, own, torch.ones(40, dtype=torch.float64)).backward()
            optimizer.step()
        values.append(flow.log_prob(x, own).detach())
    torch.testing.assert_close(values[0], values[1], rtol=0, atol=1e-10)  # the order of sums over sites
    assert values[0].std() > 0


class Loss(nn.Module):
    """What `functional_call` can call."""

    def __init__(self, mechanism: FeatureMechanism) -> None:
        super().__init__()
        self.mechanism = mechanism

    def forward(self, x: Tensor, parents: Parents, weight: Tensor) -> Tensor:
        return self.mechanism.loss(x, parents, weight)


@EVERY
@pytest.mark.parametrize("base", ["normal", "student_t"])
def test_members_train_together(family: str, spline: str | None, base: str) -> None:
    """vmap over stacked parameters gives each member's loss and gradient."""
    flows = [Loss(flow_of(family, spline, 4, base=base, seed=seed)) for seed in range(3)]
    for seed, flow in enumerate(flows):
        shake(flow, seed=seed)
    x, parents, weight = normal(30, 4, seed=12), parents_of(30), torch.ones(30, dtype=torch.float64)
    stacked, buffers = torch.func.stack_module_state(flows)

    def loss(state: dict[str, Tensor], held: dict[str, Tensor], rows: Tensor) -> Tensor:
        value = torch.func.functional_call(flows[0], (state, held), (x[rows], parents.rows(rows), weight[rows]))
        assert isinstance(value, Tensor)
        return value

    # Each member has rows of its own, as in a bootstrap.
    own = torch.randint(0, 30, (3, 30), generator=torch.Generator().manual_seed(0))
    gradients, values = torch.func.vmap(torch.func.grad_and_value(loss))(stacked, buffers, own)
    assert ConditionalFlow.vmap
    for member, flow in enumerate(flows):
        alone = flow(x[own[member]], parents.rows(own[member]), weight)
        alone.backward()
        torch.testing.assert_close(values[member], alone.detach(), rtol=1e-12, atol=0)  # the order of sums
        for name, parameter in flow.named_parameters():
            assert parameter.grad is not None
            scale = 1 + float(parameter.grad.abs().max())
            torch.testing.assert_close(gradients[name][member], parameter.grad, rtol=0, atol=1e-9 * scale)  # the same


@EVERY
def test_one_more_site(family: str, spline: str | None) -> None:
    flow, parents, x = flow_of(family, spline, 3), parents_of(40), normal(40, 3, seed=13)
    shake(flow)
    before = flow.log_prob(x, parents).detach()
    more = flow.with_site()
    torch.testing.assert_close(more.log_prob(x, parents).detach(), before, rtol=0, atol=1e-12)  # the order of sums
    new = Parents(parents.design, torch.full((40,), SITES))
    trained = {name for name, p in more.named_parameters() if p.requires_grad}
    assert trained and all(name.endswith(".new") for name in trained)
    assert more.penalty() == 0  # at the centre of its prior
    weight = torch.ones(40, dtype=torch.float64)
    more.loss(x, new, weight).backward()
    with torch.no_grad():
        for p in more.parameters():
            if p.requires_grad:
                assert p.grad is not None and (p.grad.abs().sum() > 0)
                p.sub_(1e-3 * p.grad)
    assert more.penalty() > 0
    torch.testing.assert_close(more.log_prob(x, parents).detach(), before, rtol=0, atol=1e-12)  # others: frozen
    third = more.with_site()
    assert third.shape.sites == SITES + 2
    torch.testing.assert_close(third.log_prob(x, new), more.log_prob(x, new), rtol=0, atol=1e-12)
    assert all(p.requires_grad for p in flow.parameters())


@EVERY
@pytest.mark.parametrize("adapted", [False, True])
def test_config_and_state_rebuild_it(family: str, spline: str | None, adapted: bool) -> None:
    flow, parents, x = flow_of(family, spline, 3, base="student_t"), parents_of(20), normal(20, 3, seed=14)
    shake(flow)
    if adapted:
        flow = flow.with_site()
    config = json.loads(json.dumps(flow.config()))
    other = from_config(config)
    other.load_state_dict(flow.state_dict())
    assert torch.equal(other.log_prob(x, parents), flow.log_prob(x, parents))
    assert {n for n, p in other.named_parameters() if p.requires_grad} == {
        n for n, p in flow.named_parameters() if p.requires_grad
    }


def test_same_seed_same_weights() -> None:
    first, second, other = (flow_of("autoregressive", None, 4, seed=seed) for seed in (1, 1, 2))
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), other.state_dict().values(), strict=True)
    )
    assert all(p.dtype == torch.float64 for p in first.parameters())


def test_every_feature_is_seen() -> None:
    """With more features than hidden units, the last output still depends, through the network, on all features."""
    degrees = torch.arange(40)
    network = Network(
        2, 2, 40, (12, 12), torch.Generator().manual_seed(0), inputs=40, degrees=(degrees, degrees.clone())
    )
    shake(network)
    parents = Parents(normal(1, 2, seed=1), torch.zeros(1, dtype=torch.int64))
    jacobian = torch.autograd.functional.jacobian(lambda v: network(parents, v[None])[0], normal(40, seed=2))
    assert (jacobian.triu() == 0).all()
    # A hidden unit of degree d sees all inputs below d; 12 units over 40 degrees leave at most 4 unseen at the end.
    assert (jacobian[-1, :36] != 0).all()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"family": "spines"}, "did you mean 'spline'"),
        ({"family": "affine", "spline": "linear"}, "affine family has no spline"),
        ({"family": "affine", "transforms": 2}, "no further step"),
        ({"base": "student"}, "did you mean 'student_t'"),
        ({"spline": "cubic"}, "allowed: quadratic, linear"),
        ({"hidden": ()}, "hidden is empty"),
        ({"bins": 1}, "at least 2"),
        ({"transforms": 0}, "at least 1"),
    ],
)
def test_wrong_arguments(wrong: dict[str, object], says: str) -> None:
    right: dict[str, object] = {"family": "spline", "features": 3, "columns": 2, "sites": 2, "seed": 0}
    with pytest.raises(OptionError, match=says):
        conditional(**{**right, **wrong})  # type: ignore[arg-type]


def test_wrong_config() -> None:
    with pytest.raises(OptionError, match="not the shape of a conditional flow"):
        from_config({"family": "affine"})
    config = flow_of("affine", None, 3).config()
    for wrong in ({"adapted": "yes"}, {"adapted": True, "sites": 1}, {"features": 2.0}, {"hidden": ["a"]}):
        with pytest.raises(OptionError):
            from_config({**config, **wrong})


@EVERY
def test_a_code_that_is_no_site_gives_nan(family: str, spline: str | None) -> None:
    """Not the answer of some other site; the harmonizer names unseen sites before it comes to this."""
    flow, parents, x = flow_of(family, spline, 3), parents_of(3), normal(3, 3, seed=15)
    shake(flow)
    log_prob = flow.log_prob(x, Parents(parents.design, torch.tensor([0, SITES, -1])))
    assert log_prob.isnan().tolist() == [False, True, True]


def test_study_helper_is_what_it_says() -> None:
    x, parents, weight = study().take(np.arange(10))
    assert x.dtype == torch.float64 and len(parents) == len(weight) == 10
