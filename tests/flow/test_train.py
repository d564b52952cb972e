"""One loop: it learns, keeps the best, is the same by seed and after a kill, and comes back from numbers not finite."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.conditional_cases import SITES, flow_of, guest, study
from torch import Tensor, nn

from pycombat_gam.errors import ModelFileError, OptionError, TrainingError
from pycombat_gam.flow.mechanisms.conditional import ConditionalFlow
from pycombat_gam.flow.mechanisms.mechanism import FeatureMechanism, Parents
from pycombat_gam.flow.networks.network import Network, decayed
from pycombat_gam.flow.training import descent
from pycombat_gam.flow.training.progress import Hook
from pycombat_gam.flow.training.train import Rows, Training, canonical_order, split, train
from pycombat_gam.saving.container import read_container, write_container

QUICK = Training(max_epochs=8, batch_size=64, learning_rate=5e-3, checkpoint_every=3)


@pytest.fixture(autouse=True)
def _guest() -> Iterator[None]:
    with guest():
        yield


class Gaussian(FeatureMechanism):
    """x = c W + s L ε: W by L-BFGS under a normal prior, the residuals' factor L by refresh."""

    full_batch = True
    factor: Tensor

    def __init__(self, columns: int, features: int) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(columns, features, dtype=torch.float64))
        self.register_buffer("factor", torch.eye(features, dtype=torch.float64))

    def abduct(self, x: Tensor, parents: Parents) -> tuple[Tensor, Tensor]:
        residual = x - parents.design @ self.slope
        noise = torch.linalg.solve_triangular(self.factor, residual.mT, upper=False).mT
        return noise, -self.factor.diagonal().log().sum().expand(len(x))

    def predict(self, noise: Tensor, parents: Parents) -> Tensor:
        return parents.design @ self.slope + noise @ self.factor.mT

    def base_log_prob(self, noise: Tensor) -> Tensor:
        return -0.5 * (noise.square() + np.log(2 * np.pi)).sum(-1)

    def draw(self, rows: int, rng: np.random.Generator) -> Tensor:
        return torch.from_numpy(rng.standard_normal((rows, len(self.factor))))

    def reorder_sites(self, place: np.ndarray) -> None:
        """It has none."""

    def penalty(self) -> Tensor:
        return 0.5 * self.slope.square().sum()

    @torch.no_grad()
    def refresh(self, x: Tensor, parents: Parents, weight: Tensor) -> None:
        residual = x - parents.design @ self.slope
        self.factor.copy_(torch.linalg.cholesky((residual * weight[:, None]).mT @ residual / weight.sum()))


class Broken(Gaussian):
    """Its log-probability is NaN at certain calls."""

    full_batch = False

    def __init__(self, columns: int, features: int, when: range) -> None:
        super().__init__(columns, features)
        self.calls, self.when = 0, when

    def log_prob(self, x: Tensor, parents: Parents) -> Tensor:
        self.calls += 1
        return super().log_prob(x, parents) * (float("nan") if self.calls in self.when else 1)


def indices(rows: Rows, held_out: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    return split(rows.site, canonical_order(rows.x, rows.design, rows.site), held_out, seed=0)


def fit(
    rows: Rows, mechanism: FeatureMechanism, *, settings: Training = QUICK, held_out: float = 0.2, seed: int = 0, **more
) -> pd.DataFrame:
    return train(mechanism, rows, *indices(rows, held_out), settings=settings, seed=seed, stage="features", **more)


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a[0] == b[0] and torch.equal(a[1], b[1]) for a, b in pairs)


def numbers(history: pd.DataFrame) -> pd.DataFrame:
    return history.drop(columns="seconds")


@pytest.mark.parametrize("family", ["affine", "spline", "autoregressive", "coupling"])
def test_learns_and_keeps_the_best(family: str) -> None:
    rows, flow = study(), flow_of(family, None, 5, base="student_t")
    history = fit(rows, flow)
    assert list(history.columns) == ["stage", "epoch", "loss", "held_out", "learning_rate", "seconds", "rollback"]
    assert history["held_out"].iloc[-1] > history["held_out"].iloc[0]
    held_out = indices(rows)[1]
    x, parents, _ = rows.take(held_out)
    with torch.no_grad():
        assert float(flow.log_prob(x, parents).mean()) == pytest.approx(history["held_out"].max(), abs=1e-12)  # sums


def test_stops_early_at_the_best_state() -> None:
    rows, flow = study(60), flow_of("autoregressive", "quadratic", 5)
    settings = Training(max_epochs=300, patience=6, batch_size=32, learning_rate=2e-2)
    history = fit(rows, flow, settings=settings)
    assert len(history) < 300
    assert history["epoch"].iloc[-1] - history["held_out"].idxmax() == 6
    assert history["learning_rate"].iloc[-1] < 2e-2  # halved on the plateau


def test_a_start_that_training_cannot_better_stays() -> None:
    rows, flow = study(60), flow_of("affine", None, 5)
    before = {name: value.clone() for name, value in flow.state_dict().items()}
    history = fit(rows, flow, settings=replace(QUICK, learning_rate=3.0))
    assert history["held_out"].idxmax() == 0
    assert all(torch.equal(before[name], value) for name, value in flow.state_dict().items())


def test_without_held_out_rows_the_last_state_stays() -> None:
    rows, flow = study(), flow_of("affine", None, 5)
    history = fit(rows, flow, held_out=0.0)
    assert len(history) == QUICK.max_epochs and history["held_out"].isna().all()
    assert history["learning_rate"].is_monotonic_decreasing
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]


def test_same_seed_same_numbers_whatever_the_order_of_rows() -> None:
    rows, shuffled = study(), np.random.default_rng(9).permutation(240)
    permuted = replace(
        rows, x=rows.x[shuffled], design=rows.design[shuffled], site=rows.site[shuffled], weight=rows.weight[shuffled]
    )
    flows = [flow_of("autoregressive", None, 5) for _ in range(3)]
    histories = [fit(rows, flows[0]), fit(permuted, flows[1]), fit(rows, flows[2], seed=1)]
    pd.testing.assert_frame_equal(numbers(histories[0]), numbers(histories[1]), check_exact=True)
    assert same(flows[0], flows[1]) and not same(flows[0], flows[2])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_memory_map_read_by_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: type) -> None:
    rows = study()
    values = rows.x.astype(dtype)
    np.save(tmp_path / "x.npy", values)
    flows = [flow_of("affine", None, 5) for _ in range(2)]
    whole = fit(replace(rows, x=values), flows[0])
    monkeypatch.setattr(descent, "RESIDENT", 0)
    read = fit(replace(rows, x=np.load(tmp_path / "x.npy", mmap_mode="r")), flows[1])
    pd.testing.assert_frame_equal(numbers(whole), numbers(read), check_exact=True)
    assert same(*flows)


class Kill(Exception):  # noqa: N818
    """Stands for a power cut."""


def killer(epoch: int) -> Hook:
    def hook(stage: str, now: int, most: int, held_out: float) -> None:
        if now == epoch:
            raise Kill

    return hook


@pytest.mark.parametrize("held_out", [0.0, 0.2])
@pytest.mark.parametrize("kind", ["coupling", "full batch", "adapted"])
def test_killed_and_resumed_is_as_never_stopped(tmp_path: Path, kind: str, held_out: float) -> None:
    def make() -> FeatureMechanism:
        if kind == "full batch":
            return Gaussian(3, 5)
        flow = flow_of("coupling", None, 5, base="student_t")
        return flow.with_site() if kind == "adapted" else flow

    rows, place = study(), tmp_path / "features.pcg"
    if kind == "adapted":
        rows = replace(rows, site=np.full(240, SITES))
    settings = replace(QUICK, tolerance=0.0)
    whole, stopped, resumed = make(), make(), make()
    expected = fit(rows, whole, settings=settings, held_out=held_out)
    with pytest.raises(Kill):
        # Killed at 5: the checkpoint is of epoch 3, so that two epochs are done again.
        fit(rows, stopped, settings=settings, held_out=held_out, checkpoint=place, progress=killer(5))
    history = fit(rows, resumed, settings=settings, held_out=held_out, checkpoint=place, resume=True)
    pd.testing.assert_frame_equal(numbers(history), numbers(expected), check_exact=True)
    assert same(whole, resumed)
    # A finished training is not done again.
    again = make()
    pd.testing.assert_frame_equal(
        fit(rows, again, settings=settings, held_out=held_out, checkpoint=place, resume=True), history
    )
    assert same(whole, again)


def test_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    rows, place = study(), tmp_path / "features.pcg"
    fit(rows, flow_of("affine", None, 5), checkpoint=place)
    other = replace(rows, x=rows.x + 1e-9)
    for changed, says in [
        ({"seed": 1}, "seed"),
        ({"settings": replace(QUICK, patience=9)}, "settings"),
        ({"held_out": 0.1}, "training rows"),
    ]:
        with pytest.raises(ModelFileError, match=f"another training .*{says}"):
            fit(rows, flow_of("affine", None, 5), checkpoint=place, resume=True, **changed)
    with pytest.raises(ModelFileError, match=r"another training \(features differ"):
        fit(other, flow_of("affine", None, 5), checkpoint=place, resume=True)
    with pytest.raises(ModelFileError, match="mechanism"):
        fit(rows, flow_of("spline", None, 5), checkpoint=place, resume=True)
    place.write_bytes(place.read_bytes()[:500])
    with pytest.raises(ModelFileError, match="not a readable"):
        fit(rows, flow_of("affine", None, 5), checkpoint=place, resume=True)
    # Without resume it is written anew.
    fit(rows, flow_of("affine", None, 5), checkpoint=place)
    held = read_container(place)
    for name in ("generator", "history", "optimizer/0/exp_avg", "module/affine.location_design"):
        broken = {**held.arrays, name: np.array(["text"])}
        write_container(place, replace(held, arrays=broken))
        with pytest.raises(ModelFileError, match=r"cannot be rebuilt|must hold"):
            fit(rows, flow_of("affine", None, 5), checkpoint=place, resume=True)
    write_container(place, replace(held, kind="combat"))
    with pytest.raises(ModelFileError, match="'combat', not a checkpoint"):
        fit(rows, flow_of("affine", None, 5), checkpoint=place, resume=True)


def test_full_batch_finds_the_posterior_mode() -> None:
    """The mode solves Σ_i c_i (x_i − c_i W)ᵀ Σ⁻¹ = W at its own Σ; the loop stops there by itself."""
    rows, mechanism = study(), Gaussian(3, 5)
    history = fit(rows, mechanism, settings=Training(max_epochs=100))
    assert len(history) < 30 and not history["rollback"].any()
    assert history["held_out"].iloc[-1] > history["held_out"].iloc[0] - 1e-9
    x, parents, _ = rows.take(indices(rows)[0])
    slope, factor = mechanism.slope.detach(), mechanism.factor
    score = torch.cholesky_solve((parents.design.mT @ (x - parents.design @ slope)).mT, factor).mT - slope
    # The loop stops at a relative change of 1e-7 in an objective of about 6 a row, flat at its minimum.
    assert score.abs().max() < 0.05


@pytest.mark.parametrize("call", [7, 9])
def test_an_epoch_that_meets_nan_is_undone(call: int) -> None:
    """Call 1 scores the start, 2–5 and 6–9 are two epochs: three minibatches, then the held-out rows."""
    rows = study()
    history = fit(rows, Broken(3, 5, range(call, call + 1)), settings=replace(QUICK, tolerance=0.0))
    undone = history["rollback"]
    assert list(np.flatnonzero(undone)) == [2] and np.isnan(history["held_out"][2])
    assert history["learning_rate"][3] == history["learning_rate"][2] / 2
    assert np.isfinite(history["loss"].iloc[-1]) and history["held_out"].iloc[-1] > history["held_out"].iloc[0]


@pytest.mark.parametrize("full_batch", [False, True])
def test_nan_without_end_is_an_error(full_batch: bool) -> None:
    mechanism = Broken(3, 5, range(10**6))
    mechanism.full_batch = full_batch
    with pytest.raises(TrainingError, match="'features' met a non-finite loss or gradient 6 times"):
        fit(study(), mechanism, settings=replace(QUICK, max_epochs=50))
    assert (mechanism.slope == 0).all()  # the last good state


def test_nothing_to_train_on() -> None:
    with pytest.raises(TrainingError, match="no row"):
        train(
            flow_of("affine", None, 5),
            study(),
            np.array([], dtype=int),
            np.array([], dtype=int),
            settings=QUICK,
            seed=0,
            stage="features",
        )


def test_weights_count_rows() -> None:
    """A weight of 2 is the row twice (full batch: no lots are drawn)."""
    rows, index = study(), np.arange(240)
    weighted = replace(rows, weight=np.where(index < 50, 2.0, 1.0))
    mechanisms = Gaussian(3, 5), Gaussian(3, 5)
    none = np.array([], dtype=int)
    train(mechanisms[0], weighted, index, none, settings=QUICK, seed=0, stage="features")
    twice = np.concatenate([np.arange(50), index])
    train(mechanisms[1], rows, twice, none, settings=QUICK, seed=0, stage="features")
    torch.testing.assert_close(mechanisms[0].slope, mechanisms[1].slope, rtol=0, atol=1e-8)  # where L-BFGS stops


def test_bf16_is_for_training_only() -> None:
    rows, exact, coarse = study(), flow_of("autoregressive", None, 5), flow_of("autoregressive", None, 5)
    histories = fit(rows, exact), fit(rows, coarse, settings=replace(QUICK, amp="bf16"))
    assert not same(exact, coarse)
    # bfloat16 has 3 digits; the held-out score after 8 epochs moves by less than 1 %.
    assert histories[1]["held_out"].iloc[-1] == pytest.approx(histories[0]["held_out"].iloc[-1], rel=0.01)
    assert all(part.arithmetic == torch.float64 for part in coarse.modules() if isinstance(part, Network))
    assert all(parameter.dtype == torch.float64 for parameter in coarse.parameters())


def test_compile_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(torch, "compile", lambda function: asked.append(function) or function)
    fit(study(), flow_of("affine", None, 5), settings=replace(QUICK, compile=True, max_epochs=1))
    assert len(asked) == 1


def test_only_networks_decay() -> None:
    flow = flow_of("coupling", None, 5)
    names = {id(parameter): name for name, parameter in flow.named_parameters()}
    shrunk = {names[id(parameter)] for parameter in decayed(flow)}
    assert shrunk and all(".network." in f".{name}" for name in shrunk)
    assert "affine.location_site.known" not in shrunk and "affine.location_design" not in shrunk


def test_a_new_site_is_shrunk_the_more_the_fewer_its_rows() -> None:
    rows, flow = study(), flow_of("affine", None, 5)
    fit(rows, flow, settings=replace(QUICK, max_epochs=40))
    moved = []
    for n in (3, 100):
        more: ConditionalFlow = flow.with_site()
        new = replace(rows, x=rows.x + 3, site=np.full(240, SITES))
        frozen = {name: p.clone() for name, p in more.named_parameters() if not p.requires_grad}
        index = canonical_order(new.x, new.design, new.site)[:n]
        settings = replace(QUICK, max_epochs=150, learning_rate=3e-2)
        train(more, new, index, np.array([], dtype=int), settings=settings, seed=0, stage="new site")
        assert all(torch.equal(frozen[name], dict(more.named_parameters())[name]) for name in frozen)
        part = more.affine.location_site
        assert part.new is not None
        moved.append(float((part.new - part.centre).abs().mean().detach()))
    assert 0 < moved[0] < moved[1]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"max_epochs": 0}, "max_epochs is 0"),
        ({"learning_rate": 0.0}, "above 0"),
        ({"weight_decay": -1.0}, "below 0"),
        ({"held_out": 1.0}, "share of rows"),
        ({"amp": "fp16"}, "allowed: off, bf16"),
    ],
)
def test_wrong_settings(wrong: dict[str, float], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        Training(**wrong)  # type: ignore[arg-type]
