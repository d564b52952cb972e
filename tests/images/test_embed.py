"""The table of an embedding: rows in the order given, names that sort, batches; bad calls."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

import pycombat_gam as pcg
from pycombat_gam import errors, progress
from pycombat_gam.errors import DataError, MissingPackageError, OptionError

Batch = NDArray[np.float32]


def mean_colour(x: Batch) -> Batch:
    return x.mean(axis=(2, 3))


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Seven pictures of different sizes."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{name}.png" for name in "gcaefbd"]
    for i, path in enumerate(paths):
        Image.fromarray(rng.integers(0, 256, (10 + i, 20 - i, 3), dtype=np.uint8)).save(path)
    return paths


def test_a_row_for_each_path_in_the_order_given(pictures: list[Path]) -> None:
    table = pcg.embed(pictures, mean_colour, size=(8, 8))
    assert list(table.columns) == ["path", "e0", "e1", "e2"]
    assert table["path"].tolist() == [str(path) for path in pictures]
    assert isinstance(table.index, pd.RangeIndex) and (table.dtypes.iloc[1:] == np.float32).all()
    order = [3, 0, 6, 1, 5, 2, 4]
    permuted = pcg.embed([pictures[i] for i in order], mean_colour, size=(8, 8))
    pd.testing.assert_frame_equal(permuted, table.iloc[order].reset_index(drop=True), check_exact=True)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, np.int64(100)])
def test_batches_change_nothing(pictures: list[Path], batch_size: int) -> None:
    sizes: list[int] = []

    def backbone(x: Batch) -> Batch:
        sizes.append(len(x))
        return mean_colour(x)

    table = pcg.embed(pictures, backbone, batch_size=batch_size)
    pd.testing.assert_frame_equal(table, pcg.embed(pictures, mean_colour), check_exact=True)
    assert sum(sizes) == 7 and set(sizes[:-1]) <= {batch_size} and sizes[-1] <= batch_size


def test_the_index_of_a_column_is_kept_and_joins_covariates(pictures: list[Path]) -> None:
    about = pd.DataFrame(
        {"age": range(7), "image": [str(p) for p in pictures]}, index=pd.Index(list("tuvwxyz"), name="id")
    )
    table = pcg.embed(about["image"], mean_colour)
    assert table.index.equals(about.index) and table.index.name == "id"
    assert list(about.join(table).columns) == ["age", "image", "path", "e0", "e1", "e2"]
    chosen = [name for name in about.join(table).columns if re.search(r"^e\d+$", name)]
    assert chosen == ["e0", "e1", "e2"]
    for others in (tuple(pictures), np.array(pictures), pd.Index(map(str, pictures))):
        same = pcg.embed(others, mean_colour)
        assert isinstance(same.index, pd.RangeIndex) and np.array_equal(same["e1"], table["e1"])


def test_a_path_may_occur_again(pictures: list[Path]) -> None:
    rows: list[int] = []

    def backbone(x: Batch) -> Batch:
        rows.append(len(x))
        return mean_colour(x)

    table = pcg.embed([pictures[1], pictures[0], pictures[1]], backbone)
    assert sum(rows) == 2 and table.iloc[0].equals(table.iloc[2]) and not table.iloc[0].equals(table.iloc[1])


def test_paths_stay_as_they_were_spelled(pictures: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pictures[0].parent)
    assert pcg.embed(["./a.png", Path("b.png")], mean_colour)["path"].tolist() == ["./a.png", "b.png"]


@pytest.mark.parametrize(
    ("d", "first", "last"), [(1, "e0", "e0"), (10, "e0", "e9"), (11, "e00", "e10"), (1280, "e0000", "e1279")]
)
def test_names_sort(pictures: list[Path], d: int, first: str, last: str) -> None:
    table = pcg.embed(pictures, lambda x: np.repeat(x.mean(axis=(1, 2, 3))[:, None], d, axis=1))
    names = list(table.columns[1:])
    assert (names[0], names[-1], len(names)) == (first, last, d) and sorted(names) == names


def test_precision_is_the_backbones(pictures: list[Path]) -> None:
    for kind, expected in (
        (np.float64, np.float64),
        (np.float32, np.float32),
        (np.float16, np.float32),
        (">f8", np.float64),
    ):
        table = pcg.embed(pictures, lambda x, kind=kind: mean_colour(x).astype(kind))
        assert (table.dtypes.iloc[1:] == expected).all()
    as_lists = pcg.embed(pictures, lambda x: mean_colour(x).tolist())
    assert (as_lists.dtypes.iloc[1:] == np.float64).all()


def test_axes_of_length_one_are_dropped(pictures: list[Path]) -> None:
    pooled = pcg.embed(pictures, lambda x: x.mean(axis=(2, 3), keepdims=True))
    pd.testing.assert_frame_equal(pooled, pcg.embed(pictures, mean_colour), check_exact=True)


def test_without_a_size_shapes_must_agree(pictures: list[Path]) -> None:
    with pytest.raises(DataError, match=r"c.png' has shape \(11, 19\), '.*g.png' has \(10, 20\): .*size=\(224, 224\)"):
        pcg.embed(pictures, mean_colour, size=None)


def _after(batches: int, bad: Callable[[Batch], Any]) -> Callable[[Batch], Any]:
    """A backbone that goes wrong after some batches."""
    calls = iter(range(1000))
    return lambda x: bad(x) if next(calls) >= batches else mean_colour(x)


def _holed(x: Batch) -> Batch:
    rows = mean_colour(x)
    rows[1, 2] = np.inf
    return rows


@pytest.mark.parametrize(
    ("batches", "bad", "words"),
    [
        (1, _holed, r"NaN or infinite numbers for '.*f.png'"),
        (0, lambda x: mean_colour(x) * np.nan, r"infinite numbers for '.*g.png', '.*c.png', '.*a.png': look"),
        (2, lambda x: mean_colour(x)[:, :2], r"2 numbers an image for '.*d.png', but 3 before"),
        (0, lambda x: mean_colour(x)[1:], r"shape \(2, 3\) for 3 images from '.*g.png' to '.*a.png': give \(3, d\)"),
        (0, lambda x: x.mean(axis=(1, 2, 3)), r"shape \(3,\) .*give \(3, d\)"),
        (0, lambda x: x[:, :, :4, :5], r"shape \(3, 3, 4, 5\) .*pool it .*axes \(2, 3\)"),
        (0, lambda x: mean_colour(x)[:, :0], r"shape \(3, 0\)"),
        (0, lambda x: np.float32(1), r"shape \(\)"),
        (0, lambda x: {"features": mean_colour(x)}, r"backbone gave a dict for 3 images"),
        (0, lambda x: None, r"backbone gave None"),
        (0, lambda x: [[1.0], [1.0, 2.0], [3.0]], r"no array can be made"),
        (0, lambda x: (x.mean(axis=(2, 3)) * 255).astype(int), r"numbers of type int64"),
        (0, lambda x: mean_colour(x).astype(str), r"numbers of type <U"),
    ],
)
def test_what_the_backbone_may_not_give(
    pictures: list[Path], batches: int, bad: Callable[[Batch], Any], words: str
) -> None:
    with pytest.raises(DataError, match=words) as caught:
        pcg.embed(pictures, _after(batches, bad), batch_size=3)
    assert "\n" not in str(caught.value)


def test_paths_that_cannot_be_read(pictures: list[Path], tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 2), np.float32), np.eye(4)), tmp_path / "v.nii")
    (tmp_path / "x.tiff").write_bytes(b"")
    (tmp_path / "noend").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    gone = [tmp_path / f"gone{i}.png" for i in range(5)]
    holes = pd.Series([str(pictures[0]), None, np.nan, ""], index=list("wxyz"))
    for paths, words in (
        ([*pictures, *gone, gone[0]], r"5 images of 12 not found, '.*gone0.png', .*gone2.png' and 2 more"),
        ([tmp_path / "folder.png"], r"1 image of 1 not found, '.*folder.png'"),
        (
            [tmp_path / "x.tiff", tmp_path / "noend"],
            r"must end in .png, .jpg, .jpeg, .nii, .nii.gz; '.*x.tiff', '.*noend'",
        ),
        ([*pictures, tmp_path / "v.nii"], r"mixes pictures and volumes, '.*g.png', '.*v.nii'"),
        ([], "paths is empty"),
        (pd.Series([], dtype=object), "paths is empty"),
        (holes, r"no path in 3 rows \(index x, y, z\)"),
        ([pictures[0], 5], r"no path in 1 row \(index 1\), but 5"),
    ):
        with pytest.raises(DataError, match=words) as caught:
            pcg.embed(paths, mean_colour)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 224}, r"size=224: pictures need \(h, w\), such as size=\(224, 224\), or None"),
        ({"size": (8, 8, 8)}, "pictures need"),
        ({"size": (8, 0)}, "pictures need"),
        ({"size": (8, 8.0)}, "pictures need"),
        ({"size": "88"}, "pictures need"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": True}, "batch_size=True"),
        ({"mean": (0.5, 0.5)}, r"mean=\(0.5, 0.5\): give a number, or 3, one for each channel"),
        ({"mean": "a"}, "mean='a'"),
        ({"mean": np.nan}, "mean=nan"),
        ({"sd": 0}, "sd=0: give a positive number"),
        ({"sd": (1, 1, -1)}, "positive"),
        ({"device": "cpu"}, "device='cpu' is for a torch.nn.Module"),
        ({"cache": 3}, "cache=3"),
    ],
)
def test_options_that_are_not_allowed(pictures: list[Path], options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        pcg.embed(pictures, mean_colour, **options)


def test_paths_and_backbones_of_another_kind(pictures: list[Path]) -> None:
    frame = pd.DataFrame({"path": pictures})
    for paths, words in (
        (str(pictures[0]), r"one path: give a list, paths=\["),
        (pictures[0], r"one path: give a list, paths=\["),
        (frame, r"table\['path'\]"),
        (iter(pictures), r"sorted\(Path"),
        (set(pictures), "paths is a set"),
        (np.array([pictures]), "paths is a 2-D array"),
        (None, "paths is None"),
    ):
        with pytest.raises(OptionError, match=words):
            pcg.embed(paths, mean_colour)  # type: ignore[arg-type]  # what is not allowed, on purpose
    with pytest.raises(OptionError, match="backbone is a str"):
        pcg.embed(pictures, "resnet50")  # type: ignore[arg-type]  # as above


def test_a_missing_package_is_named(pictures: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"PIL: pip install 'pillow>=10' 'nibabel>=5'"):
        pcg.embed(pictures, mean_colour)


def test_what_the_backbone_raises_is_its_own(pictures: list[Path]) -> None:
    def broken(x: Batch) -> Batch:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        pcg.embed(pictures, broken)


def test_progress_is_shown_by_image(pictures: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[str, int]] = []
    real = progress.progress_bar

    def bar(what: str, total: int) -> Any:
        shown.append((what, total))
        return real(what, total)

    monkeypatch.setattr("pycombat_gam.images.embed.progress_bar", bar)
    pcg.embed(pictures, mean_colour, batch_size=2)
    assert shown == [("embedding images", 7)]


def test_torch_is_not_imported_for_other_backbones(pictures: list[Path]) -> None:
    code = f"""
import sys, pycombat_gam as pcg
pcg.embed([{str(pictures[0])!r}], lambda x: x.mean(axis=(2, 3)))
print([name for name in ("torch", "nibabel", "matplotlib", "sklearn") if name in sys.modules])
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
