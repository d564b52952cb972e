"""The cache: a killed run goes on; rows are those of an uncached run; damage and other backbones are noticed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import pycombat_gam as pcg
from pycombat_gam.errors import DataError, OptionError, OutputError, PcgWarning
from pycombat_gam.images.cache import Cache, probe_image

Batch = NDArray[np.float32]


class Counting:
    """The mean colour, and how many images were given, the test image not counted."""

    def __init__(self, stop_after: int | None = None, factor: float = 1.0) -> None:
        self.images, self.calls, self.stop_after, self.factor = 0, 0, stop_after, factor

    def __call__(self, x: Batch) -> Batch:
        if not (len(x) == 1 and np.array_equal(x[0], probe_image(x.shape[1:]))):
            if self.calls == self.stop_after:
                raise KeyboardInterrupt
            self.calls += 1
            self.images += len(x)
        return x.mean(axis=tuple(range(2, x.ndim))) * np.float32(self.factor)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for i in range(10):
        Image.fromarray(rng.integers(0, 256, (9, 8, 3), dtype=np.uint8)).save(tmp_path / "in" / f"{i}.png")
    return sorted((tmp_path / "in").glob("*.png"))


def same(left: pd.DataFrame, right: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(left, right, check_exact=True)


def test_a_stopped_run_goes_on_where_it_stopped(pictures: list[Path], tmp_path: Path) -> None:
    plain = pcg.embed(pictures, Counting(), batch_size=3)
    folder = tmp_path / "cache"
    with pytest.raises(KeyboardInterrupt):
        pcg.embed(pictures, Counting(stop_after=2), batch_size=3, cache=folder)
    again = Counting()
    same(pcg.embed(pictures, again, batch_size=3, cache=folder), plain)
    assert (again.images, again.calls) == (4, 2)
    third = Counting()
    same(pcg.embed(pictures, third, batch_size=5, cache=str(folder)), plain)
    assert third.calls == 0
    assert sorted(path.suffix for path in folder.iterdir()) == [".npz"] * 4


HARNESS = """
import os, signal, sys
import pycombat_gam as pcg
pcg.embed
folder, *paths = sys.argv[1:]


def embed_until(moment):
    real, writes = os.fsync, 0

    def deadly(handle):
        nonlocal writes
        writes += 1
        if writes == 2 * moment + 1:  # a file and its folder are synced for each batch
            os.kill(os.getpid(), signal.SIGKILL)
        real(handle)

    os.fsync = deadly
    pcg.embed(paths, lambda x: x.mean(axis=(2, 3)), batch_size=1, cache=f"{folder}/cache{moment}")


for moment in range(len(paths)):
    pid = os.fork()
    if pid == 0:
        embed_until(moment)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="SIGKILL and fork are POSIX")
def test_a_killed_run_goes_on(pictures: list[Path], tmp_path: Path) -> None:
    """Killed in each of ten batches, while its file is written; a process without threads forks the runs."""
    command = [sys.executable, "-c", HARNESS, str(tmp_path), *map(str, pictures)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == [str(-signal.SIGKILL.value)] * 10
    plain, kept = pcg.embed(pictures, Counting(), batch_size=1), []
    for moment in range(10):
        again = Counting()
        same(pcg.embed(pictures, again, batch_size=1, cache=tmp_path / f"cache{moment}"), plain)
        kept.append(10 - again.images)
        assert {path.suffix for path in (tmp_path / f"cache{moment}").iterdir()} == {".npz"}
    assert kept == list(range(10))


def test_rows_are_found_by_content(pictures: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    pcg.embed(pictures, Counting(), cache=folder)
    (tmp_path / "copy.png").write_bytes(pictures[4].read_bytes())
    again = Counting()
    mixed = [pictures[7], tmp_path / "copy.png", pictures[0]]
    same(pcg.embed(mixed, again, cache=folder), pcg.embed(mixed, Counting()))
    assert again.images == 0
    Image.new("RGB", (8, 9), (1, 2, 3)).save(pictures[4])
    same(pcg.embed(pictures, again, cache=folder), pcg.embed(pictures, Counting()))
    assert again.images == 1


def test_equal_content_is_computed_once(pictures: list[Path], tmp_path: Path) -> None:
    (tmp_path / "copy.png").write_bytes(pictures[0].read_bytes())
    counting = Counting()
    table = pcg.embed([pictures[0], tmp_path / "copy.png", pictures[0]], counting, cache=tmp_path / "cache")
    assert counting.images == 1 and np.array_equal(np.ptp(table.iloc[:, 1:].to_numpy(), axis=0), np.zeros(3))


@pytest.mark.parametrize("options", [{"size": (9, 9)}, {"mean": 0.5}, {"sd": (1, 1, 2)}, {"mean": 1e-12}])
def test_other_preparation_is_another_row(pictures: list[Path], tmp_path: Path, options: dict[str, object]) -> None:
    folder = tmp_path / "cache"
    pcg.embed(pictures, Counting(), cache=folder)
    other = Counting()
    same(pcg.embed(pictures, other, cache=folder, **options), pcg.embed(pictures, Counting(), **options))
    assert other.images == 10


def test_without_a_size_the_shape_counts(pictures: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    first = pcg.embed(pictures, Counting(), size=None, cache=folder)
    again = Counting()
    same(pcg.embed(pictures, again, size=(9, 8), cache=folder), first)
    assert again.images == 0  # not resized either way
    Image.new("RGB", (20, 9)).save(pictures[4])
    with pytest.raises(DataError, match=r"4.png' has shape \(9, 20\)"):
        pcg.embed(pictures, Counting(), size=None, cache=folder)


def _wider(x: Batch) -> Batch:
    return np.repeat(x.mean(axis=(2, 3)), 2, axis=1)


def _exact(x: Batch) -> NDArray[np.float64]:
    return x.mean(axis=(2, 3)).astype(np.float64)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (Counting(factor=1.001), r"differ by up to 0.1 % of the largest"),
        (lambda x: np.median(x, axis=(2, 3)), "differ by up to"),
        (lambda x: x[:, ::-1].mean(axis=(2, 3)), "differ by up to"),
        (lambda x: x[:, :, ::-1, 0].mean(axis=2), "differ by up to"),
        (_wider, "3 numbers of float32 there, 6 of float32 now"),
        (_exact, "3 numbers of float32 there, 3 of float64 now"),
    ],
)
def test_another_backbone_is_refused(
    pictures: list[Path], tmp_path: Path, other: Callable[[Batch], Batch], words: str
) -> None:
    folder = tmp_path / "cache"
    pcg.embed(pictures[:2], Counting(), cache=folder)
    with pytest.raises(OptionError, match=rf"filled by another backbone.*{words}.*its own folder"):
        pcg.embed(pictures, other, cache=folder)


def test_the_same_network_with_other_weights_is_refused(pictures: list[Path], tmp_path: Path) -> None:
    def network(seed: int) -> torch.nn.Module:
        torch.manual_seed(seed)
        parts = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
        return torch.nn.Sequential(*parts)

    folder = tmp_path / "cache"
    table = pcg.embed(pictures, network(0), cache=folder)
    same(pcg.embed(pictures, network(0).train(), cache=folder, device="cpu"), table)
    with pytest.raises(OptionError, match="another backbone"):
        pcg.embed(pictures, network(1), cache=folder)
    finetuned = network(0)
    with torch.no_grad():
        finetuned[0].weight += 1e-3
    with pytest.raises(OptionError, match="another backbone"):
        pcg.embed(pictures, finetuned, cache=folder)


def test_a_backbone_that_answers_the_test_image_by_nan(pictures: list[Path], tmp_path: Path) -> None:
    """Of no importance: what it answers must only be the same again."""

    def choosy(x: Batch) -> Batch:
        return np.where(np.array_equal(x[0], probe_image(x.shape[1:])), np.float32(np.nan), x.mean(axis=(2, 3)))

    first = pcg.embed(pictures, choosy, cache=tmp_path / "cache")
    same(pcg.embed(pictures, choosy, cache=tmp_path / "cache"), first)


@pytest.mark.parametrize("how", ["half", "empty", "text", "array", "object", "width", "keys", "nan", "names"])
def test_a_damaged_file_is_not_used(pictures: list[Path], tmp_path: Path, how: str) -> None:
    folder = tmp_path / "cache"
    plain = pcg.embed(pictures, Counting(), batch_size=5, cache=folder)
    damaged = sorted(folder.iterdir())[0]
    with np.load(damaged) as stored:
        parts = dict(stored)
    if how == "half":
        damaged.write_bytes(damaged.read_bytes()[:-200])
    elif how in ("empty", "text"):
        damaged.write_text("" if how == "empty" else "no rows")
    elif how == "array":
        with damaged.open("wb") as stream:
            np.save(stream, parts["rows"])
    else:
        if how == "object":
            parts["rows"] = parts["rows"].astype(object)
        elif how == "width":
            parts["rows"] = parts["rows"][:, :2]
        elif how == "keys":
            parts["keys"] = parts["keys"][:-1]
        elif how == "nan":
            parts["rows"][2, 1] = np.nan
        else:
            parts["row"] = parts.pop("rows")
        np.savez(damaged, **parts)
    again = Counting()
    with pytest.warns(PcgWarning, match=rf"1 file of the cache damaged, '.*{damaged.name}': not used"):
        same(pcg.embed(pictures, again, batch_size=5, cache=folder), plain)
    assert again.images == 5
    same(pcg.embed(pictures, Counting(), batch_size=5, cache=folder), plain)  # the file was written anew


def test_any_flipped_bit_is_noticed_or_harmless(pictures: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    pcg.embed(pictures[:2], Counting(), cache=folder)
    (file,) = folder.iterdir()
    content = file.read_bytes()
    with np.load(file) as stored:
        keys, rows, answer = stored["keys"], stored["rows"], stored["answer"]
    cache, noticed = Cache(folder, (3, 224, 224), answer), 0
    for place in range(len(content)):
        broken = bytearray(content)
        broken[place] ^= 1 << (place % 8)
        file.write_bytes(bytes(broken))
        got, damaged = cache.read(keys.tolist())
        noticed += len(damaged)
        if not damaged:
            assert all(np.array_equal(got[key], row) for key, row in zip(keys.tolist(), rows, strict=True))
    assert noticed > len(content) / 2


def test_no_pickle_is_read(pictures: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    pcg.embed(pictures, Counting(), cache=folder)
    for file in folder.iterdir():
        with np.load(file, allow_pickle=False) as stored:
            assert {stored[name].dtype.kind for name in stored.files} == {"U", "f"}


def test_a_nan_is_never_kept(pictures: list[Path], tmp_path: Path) -> None:
    calls = iter(range(100))
    folder = tmp_path / "cache"
    with pytest.raises(DataError, match=r"NaN or infinite numbers for '.*4.png'"):
        pcg.embed(
            pictures, lambda x: x.mean(axis=(2, 3)) * (1.0 if next(calls) < 3 else np.nan), batch_size=2, cache=folder
        )
    assert len(list(folder.iterdir())) == 2


def test_folders_that_cannot_be_used(pictures: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "absent" / "cache"):
        with pytest.raises(OutputError, match="no folder can be made there"):
            pcg.embed(pictures, Counting(), cache=folder)


def test_volumes_are_kept_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(4):
        image = nibabel.Nifti1Image(rng.normal(size=(5, 4, 6)).astype(np.float32), np.eye(4))
        nibabel.save(image, tmp_path / f"{i}.nii.gz")
    paths, first, again = sorted(tmp_path.glob("*.nii.gz")), Counting(), Counting()
    table = pcg.embed(paths, first, size=(4, 4, 4), cache=tmp_path / "cache")
    same(pcg.embed(paths, again, size=(4, 4, 4), cache=tmp_path / "cache"), table)
    assert (first.images, again.images) == (4, 0)


def test_resuming_thousands_of_rows_is_quick(tmp_path: Path) -> None:
    """20,000 rows of 64 numbers in 625 files."""
    answer = np.ones(64, dtype=np.float32)
    cache = Cache(tmp_path, (3, 8, 8), answer)
    keys = [f"{i:064x}" for i in range(20_000)]
    for start in range(0, len(keys), 32):
        with (tmp_path / f"3x8x8-{start}.npz").open("wb") as stream:
            np.savez(stream, keys=np.array(keys[start : start + 32]), rows=np.ones((32, 64), np.float32), answer=answer)
    started = time.process_time()
    rows, damaged = cache.read(keys)
    assert len(rows) == 20_000 and not damaged
    # Measured 0.5 s of CPU; ten times that on a slow machine.
    assert time.process_time() - started < 5
