"""Torch modules: evaluation mode, no gradients, precision, devices; all of it put back afterwards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

import pycombat_gam as pcg
from pycombat_gam.errors import DataError, OptionError


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    for i in range(5):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    return sorted(tmp_path.glob("*.png"))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    parts = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*parts)


def test_a_module_is_evaluated_and_left_as_it_was(pictures: list[Path]) -> None:
    net = network().train()
    net[1].eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    table = pcg.embed(pictures, net, size=(16, 16), batch_size=2)
    assert [part.training for part in net.modules()] == [True, True, False, True, True, True, True]
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    images = np.stack([np.moveaxis(np.asarray(Image.open(path)), 2, 0) / np.float32(255) for path in pictures])
    with torch.no_grad():
        expected = net.eval()(torch.from_numpy(images)).numpy()
    # Sums of 27 products and 196 pixels in float32, in batches of another size.
    assert np.abs(table.iloc[:, 1:].to_numpy() - expected).max() < 1e-6
    assert table.shape == (5, 7)


def test_batches_change_nothing_in_evaluation_mode(pictures: list[Path]) -> None:
    whole = pcg.embed(pictures, network(), batch_size=5)
    single = pcg.embed(pictures, network(), batch_size=1)
    # Other batch sizes may sum in another order, in float32.
    pd.testing.assert_frame_equal(whole, single, rtol=1e-5, atol=1e-6)


def test_modes_are_put_back_after_an_error(pictures: list[Path]) -> None:
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert not self.training and torch.is_inference_mode_enabled()
            return x.mean(dim=(2, 3)) * torch.nan

    net = Broken().train()
    with pytest.raises(DataError, match=r"NaN or infinite numbers for '.*0.png'"):
        pcg.embed(pictures, net)
    assert net.training and not torch.is_inference_mode_enabled()


def test_precision_of_a_module(pictures: list[Path]) -> None:
    class Pooled(nn.Module):
        def __init__(self, kind: torch.dtype) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones((), dtype=kind))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert x.dtype == self.weight.dtype
            return (x * self.weight).mean(dim=(2, 3), keepdim=True)

    exact = pcg.embed(pictures, Pooled(torch.float64))
    assert (exact.dtypes.iloc[1:] == np.float64).all()
    for kind, tolerance in ((torch.float32, 1e-6), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)):
        table = pcg.embed(pictures, Pooled(kind))
        assert (table.dtypes.iloc[1:] == np.float32).all()
        # Half precision keeps 11 and 8 bits: 2⁻¹¹ and 2⁻⁸ for each of a few roundings.
        assert np.abs(table.iloc[:, 1:].to_numpy() - exact.iloc[:, 1:].to_numpy()).max() < tolerance


def test_devices(pictures: list[Path]) -> None:
    at_home = pcg.embed(pictures, network())
    for device in ("cpu", "auto"):
        # "auto" may be a GPU, whose convolutions round differently (TF32: 10 bits).
        pd.testing.assert_frame_equal(pcg.embed(pictures, network(), device=device), at_home, rtol=1e-2, atol=1e-3)
    with pytest.raises(OptionError, match="allowed are 'auto', 'cpu', 'cuda'"):
        pcg.embed(pictures, network(), device="gpu")
    with pytest.raises(OptionError, match=r"device='cuda:99' is not available"):
        pcg.embed(pictures, network(), device="cuda:99")


def test_a_module_is_moved_and_brought_back(pictures: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU here: which moves are asked for."""
    net, moves = network(), []
    real = net.to
    monkeypatch.setattr(net, "to", lambda place: moves.append(str(place)) or real(place))
    pcg.embed(pictures, net, device="cpu")
    assert moves == ["cpu", "cpu"]
    pcg.embed(pictures, net)
    assert moves == ["cpu", "cpu"]
    split = nn.Sequential(network(), nn.Linear(6, 2, device="meta"))
    with pytest.raises(OptionError, match="parameters are on cpu, meta; leave device out"):
        pcg.embed(pictures, split, device="cpu")


def test_a_mac_without_its_gpu(pictures: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(OptionError, match="device='mps' is not available: use 'cpu'"):
        pcg.embed(pictures, network(), device="mps")


def test_other_callables_may_return_tensors(pictures: list[Path]) -> None:
    net = network().eval()

    def wrapped(x: NDArray[np.float32]) -> torch.Tensor:
        assert isinstance(x, np.ndarray)
        return net(torch.from_numpy(x))  # with gradients

    pd.testing.assert_frame_equal(pcg.embed(pictures, wrapped), pcg.embed(pictures, net), check_exact=True)


def test_a_module_without_parameters(pictures: list[Path]) -> None:
    for device in (None, "cpu"):
        pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        assert pcg.embed(pictures, pooled, device=device).shape == (5, 4)


def test_an_output_that_is_no_tensor(pictures: list[Path]) -> None:
    class Named(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"features": x}

    with pytest.raises(DataError, match="backbone gave a dict"):
        pcg.embed(pictures, Named())
