"""NIfTI as arrays: orientation, intensity scaling, a fourth axis; what is refused."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from nibabel import orientations
from numpy.typing import NDArray

import pycombat_gam as pcg
from pycombat_gam.errors import DataError, OptionError, PcgWarning
from pycombat_gam.images.read import volume

VOXELS = np.random.default_rng(0).normal(100, 20, (5, 6, 7)).astype(np.float32)
RAS = np.diag([2.0, 2.0, 3.0, 1.0])


def save(path: Path, voxels: NDArray[Any], affine: NDArray[Any] = RAS) -> Path:
    nibabel.save(nibabel.Nifti1Image(voxels, affine), path)
    return path


def seen(path: Path, **options: Any) -> NDArray[np.float32]:
    batches: list[NDArray[np.float32]] = []

    def backbone(x: NDArray[np.float32]) -> NDArray[np.float32]:
        batches.append(x)
        return x.mean(axis=(2, 3, 4))

    pcg.embed([path], backbone, **options)
    assert batches[0].ndim == 5 and batches[0].shape[:2] == (1, 1) and batches[0].dtype == np.float32
    return batches[0][0, 0]


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "A.NII"])
def test_values_are_kept(tmp_path: Path, name: str) -> None:
    assert np.array_equal(seen(save(tmp_path / name, VOXELS), size=None), VOXELS)


def test_nifti_2_is_read(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti2Image(VOXELS, RAS), tmp_path / "a.nii")
    assert np.array_equal(seen(tmp_path / "a.nii", size=None), VOXELS)


def test_every_orientation_gives_the_same_volume(tmp_path: Path) -> None:
    """All 48 ways to store a volume along its axes."""
    image = nibabel.Nifti1Image(VOXELS, RAS)
    for order in itertools.permutations(range(3)):
        for flips in itertools.product([1, -1], repeat=3):
            turned = image.as_reoriented(np.column_stack([order, flips]))
            nibabel.save(turned, tmp_path / "a.nii")
            assert np.array_equal(seen(tmp_path / "a.nii", size=None), VOXELS)
    assert orientations.aff2axcodes(RAS) == ("R", "A", "S")


def test_stored_integers_are_scaled_as_the_header_says(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(VOXELS, RAS)
    image.set_data_dtype(np.int16)
    nibabel.save(image, tmp_path / "a.nii.gz")
    stored = nibabel.load(tmp_path / "a.nii.gz")
    slope = float(stored.dataobj.slope)
    assert slope != 1.0
    # Rounded to the nearest of the stored steps, and to float32.
    assert np.abs(seen(tmp_path / "a.nii.gz", size=None) - VOXELS).max() <= slope * 0.51


def test_size_mean_and_sd(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", np.full((5, 6, 7), 110.0, dtype=np.float32))
    got = seen(path, size=(4, 9, 3), mean=100, sd=[20])
    assert got.shape == (4, 9, 3)
    # Weights sum to one, to float32.
    assert np.abs(got - 0.5).max() < 1e-5


def test_a_fourth_axis_of_one_is_dropped_and_more_is_refused(tmp_path: Path) -> None:
    assert np.array_equal(seen(save(tmp_path / "one.nii", VOXELS[..., None]), size=None), VOXELS)
    series = save(tmp_path / "series.nii", np.stack([VOXELS, VOXELS], axis=3))
    with pytest.raises(DataError, match=r"series.nii' is 4-D, of shape \(5, 6, 7, 2\): .*four_to_three"):
        seen(series, size=None)


def test_what_is_no_volume_of_numbers_is_refused(tmp_path: Path) -> None:
    holes = VOXELS.copy()
    holes[0, :3, 1] = np.nan
    (tmp_path / "text.nii").write_text("no volume")
    (tmp_path / "text.nii.gz").write_text("no volume")
    (tmp_path / "empty.nii").write_bytes(b"")
    for name, content in (("whole.nii.gz", VOXELS), ("whole.nii", VOXELS)):
        whole = save(tmp_path / name, content).read_bytes()
        (tmp_path / name.replace("whole", "half")).write_bytes(whole[: len(whole) // 2])
    for path, words in (
        (save(tmp_path / "holes.nii", holes), "NaN or infinite numbers in 3 voxels: replace"),
        (save(tmp_path / "flat.nii", VOXELS[0]), r"shape \(6, 7\): give a volume of three dimensions"),
        (save(tmp_path / "complex.nii", VOXELS.astype(np.complex64)), "type complex64"),
        (tmp_path / "text.nii", "cannot be read as an image"),
        (tmp_path / "text.nii.gz", "cannot be read as an image"),
        (tmp_path / "empty.nii", "cannot be read as an image"),
        (tmp_path / "half.nii", "cannot be read as an image"),
        (tmp_path / "half.nii.gz", "cannot be read as an image"),
    ):
        with pytest.raises(DataError, match=words) as caught:
            seen(path, size=None)
        assert path.name in str(caught.value) and "\n" not in str(caught.value)


def test_a_volume_without_orientation_is_warned_of(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(VOXELS, None)
    assert image.header["sform_code"] == 0 and image.header["qform_code"] == 0
    nibabel.save(image, tmp_path / "a.nii")
    with pytest.warns(PcgWarning, match=r"1 volume without orientation .*a.nii.* swap left and right"):
        seen(tmp_path / "a.nii", size=None)


def test_the_default_size_is_for_pictures(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", VOXELS)
    for wrong in ({}, {"size": (96, 96)}, {"size": 96}):
        with pytest.raises(OptionError, match=r"volumes need \(d, h, w\), such as size=\(96, 96, 96\)"):
            seen(path, **wrong)
    with pytest.raises(OptionError, match="mean="):
        seen(path, size=None, mean=(1, 2, 3))


def test_shapes_that_differ_need_a_size(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{i}.nii", VOXELS[: 5 - (i == 2)]) for i in range(4)]
    with pytest.raises(DataError, match=r"2.nii' has shape \(4, 6, 7\), '.*0.nii' has \(5, 6, 7\): with size=None"):
        pcg.embed(paths, lambda x: x.mean(axis=(2, 3, 4)), size=None)


def test_a_damaged_volume_is_refused_or_read_but_never_raises_anything_else(tmp_path: Path) -> None:
    """Damage within the header; that of voxels only changes their values."""
    rng = np.random.default_rng(1)
    for name in ("a.nii", "a.nii.gz"):
        content = save(tmp_path / name, VOXELS).read_bytes()
        refused = 0
        for _ in range(400):
            broken = bytearray(content)
            for place in rng.integers(0, 352, 2):
                broken[place] = rng.integers(0, 256)
            (tmp_path / f"broken-{name}").write_bytes(bytes(broken))
            try:
                volume(tmp_path / f"broken-{name}")
            except DataError as error:
                refused += 1
                assert f"broken-{name}" in str(error)
        assert refused > 10


def test_voxels_beyond_single_precision_are_refused(tmp_path: Path) -> None:
    large = VOXELS.astype(np.float64)
    large[1, 2, 3] = 1e300
    with pytest.raises(DataError, match="infinite numbers in 1 voxel:"):
        seen(save(tmp_path / "a.nii", large), size=None)
