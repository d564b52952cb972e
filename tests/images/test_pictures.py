"""PNG and JPEG as arrays: grey, 16 bits, EXIF, alpha; resizing against Pillow, torch and scipy; what is refused."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

import pycombat_gam as pcg
from pycombat_gam.errors import DataError
from pycombat_gam.images.read import picture
from pycombat_gam.images.resize import resized

EXIF_ORIENTATION = 0x0112


def colours(h: int = 12, w: int = 17, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)


def seen(path: Path, **options: Any) -> NDArray[np.float32]:
    """What the backbone gets for one file."""
    batches: list[NDArray[np.float32]] = []

    def backbone(x: NDArray[np.float32]) -> NDArray[np.float32]:
        batches.append(x)
        return x.mean(axis=(2, 3))

    pcg.embed([path], backbone, **options)
    assert batches[0].dtype == np.float32
    return batches[0][0]


def test_colours_are_channels_between_0_and_1(tmp_path: Path) -> None:
    Image.fromarray(colours()).save(tmp_path / "a.PNG")
    expected = np.moveaxis(colours(), 2, 0).astype(np.float32) / np.float32(255)
    assert np.array_equal(seen(tmp_path / "a.PNG", size=None), expected)


def test_mean_and_sd_of_every_channel(tmp_path: Path) -> None:
    Image.fromarray(colours()).save(tmp_path / "a.png")
    mean, sd = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = (np.moveaxis(colours(), 2, 0) / 255 - mean[:, None, None]) / sd[:, None, None]
    got = seen(tmp_path / "a.png", size=None, mean=tuple(mean), sd=list(sd))
    # A few roundings to float32 of numbers below 3: 3 · 2⁻²⁴ each.
    assert np.abs(got - expected).max() < 1e-6
    shifted = seen(tmp_path / "a.png", size=None, mean=0.5, sd=2)
    # As above, of numbers below 1.
    assert np.abs(shifted - (np.moveaxis(colours(), 2, 0) / 255 - 0.5) / 2).max() < 1e-6


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_grey_fills_three_equal_channels(tmp_path: Path, suffix: str) -> None:
    grey = colours()[:, :, 0]
    Image.fromarray(grey).save(tmp_path / f"a.{suffix}", quality=100)
    got = seen(tmp_path / f"a.{suffix}", size=None)
    assert got.shape == (3, 12, 17) and np.array_equal(got[0], got[1]) and np.array_equal(got[0], got[2])
    # JPEG rounds coefficients, at quality 100 to within a few grey values of 255.
    assert np.abs(got[0] - grey / 255).max() <= (0 if suffix == "png" else 4 / 255) + 1e-7


def test_black_and_white_and_palettes(tmp_path: Path) -> None:
    bits = colours()[:, :, 0] > 127
    Image.fromarray(bits).save(tmp_path / "bits.png")
    assert np.array_equal(seen(tmp_path / "bits.png", size=None)[1], bits)
    indexed = Image.fromarray(colours()).quantize(16)
    indexed.save(tmp_path / "palette.png")
    expected = np.moveaxis(np.asarray(indexed.convert("RGB")), 2, 0).astype(np.float32) / np.float32(255)
    assert np.array_equal(seen(tmp_path / "palette.png", size=None), expected)


def test_16_bits_are_scaled_by_their_range(tmp_path: Path) -> None:
    grey = np.array([[0, 1, 255, 256], [257, 32768, 65534, 65535]], dtype=np.uint16)
    Image.fromarray(grey).save(tmp_path / "a.png")
    got = seen(tmp_path / "a.png", size=None)
    assert np.array_equal(got, np.repeat(grey.astype(np.float32)[None] / np.float32(65535), 3, axis=0))
    assert len(np.unique(got)) == grey.size


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("deep", [False, True])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, deep: bool) -> None:
    """The eight orientations as the EXIF standard defines them: which side the stored first row and column show."""
    upright = colours()[:, :, 0].astype(np.uint16) * 257 if deep else colours()
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    got = seen(tmp_path / "a.png", size=None)
    expected = np.repeat(upright[None] / 65535, 3, axis=0) if deep else np.moveaxis(upright, 2, 0) / 255
    assert got.shape == expected.shape
    # One rounding to float32 of numbers below 1.
    assert np.abs(got - expected).max() < 1e-7


def test_an_opaque_alpha_channel_says_nothing(tmp_path: Path) -> None:
    Image.fromarray(colours()).save(tmp_path / "plain.png")
    for mode in ("RGBA", "LA"):
        Image.fromarray(colours()).convert(mode).save(tmp_path / f"{mode}.png")
    assert np.array_equal(seen(tmp_path / "RGBA.png"), seen(tmp_path / "plain.png"))
    assert seen(tmp_path / "LA.png").shape == (3, 224, 224)


def _png(depth: int, kind: int, rows: bytes) -> bytes:
    """A PNG of 2 × 1 pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 2, 1, depth, kind, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0" + rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_what_would_lose_something_is_refused(tmp_path: Path) -> None:
    see_through = Image.fromarray(colours()).convert("RGBA")
    see_through.putpixel((3, 4), (1, 2, 3, 254))
    see_through.save(tmp_path / "alpha.png")
    Image.fromarray(colours()).quantize(8).save(tmp_path / "index.png", transparency=3)
    Image.fromarray(colours()).convert("CMYK").save(tmp_path / "cmyk.jpg")
    frames = [Image.fromarray(colours(seed=seed)) for seed in (0, 1)]
    frames[0].save(tmp_path / "moving.png", save_all=True, append_images=frames[1:])
    (tmp_path / "deep.png").write_bytes(_png(16, 2, bytes(range(12))))
    (tmp_path / "deep_alpha.png").write_bytes(_png(16, 4, bytes(range(8))))
    for name, words in (
        ("alpha.png", "transparent pixels"),
        ("index.png", "transparent pixels"),
        ("cmyk.jpg", "mode CMYK: convert it to RGB"),
        ("moving.png", "animation"),
        ("deep.png", "16 bits per colour channel"),
        ("deep_alpha.png", "16 bits per colour channel"),
    ):
        with pytest.raises(DataError, match=words) as caught:
            seen(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_no_images_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.jpg").write_bytes(b"")
    Image.fromarray(colours(64, 64)).save(tmp_path / "whole.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:6000])
    Image.fromarray(colours()).save(tmp_path / "other.gif")
    (tmp_path / "other.gif").rename(tmp_path / "gif.png")
    for name in ("text.png", "empty.jpg", "half.png", "gif.png"):
        with pytest.raises(DataError, match=rf"{name}' cannot be read as an image") as caught:
            seen(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_damaged_file_is_refused_or_read_but_never_raises_anything_else(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for suffix in ("png", "jpg"):
        whole = tmp_path / f"whole.{suffix}"
        Image.fromarray(colours()).save(whole)
        content = whole.read_bytes()
        for _ in range(150):
            broken = bytearray(content)
            for place in rng.integers(0, len(content), 3):
                broken[place] = rng.integers(0, 256)
            (tmp_path / f"broken.{suffix}").write_bytes(bytes(broken[: rng.integers(1, len(content) + 1)]))
            try:
                picture(tmp_path / f"broken.{suffix}")
            except DataError as error:
                assert f"broken.{suffix}" in str(error)
            except Warning:
                continue  # Pillow warns of broken EXIF and text chunks; pytest makes errors of warnings


@pytest.mark.parametrize("size", [(5, 9), (30, 40), (6, 40), (12, 17), (1, 1)])
def test_resizing_is_pillows_bilinear_in_floating_point(size: tuple[int, int]) -> None:
    image = np.random.default_rng(2).random((3, 12, 17), dtype=np.float32)
    got = resized(image, size)
    pillow = [np.asarray(Image.fromarray(c).resize(size[::-1], Image.Resampling.BILINEAR)) for c in image]
    in_torch = torch.nn.functional.interpolate(torch.from_numpy(image)[None], size, mode="bilinear", antialias=True)[0]
    # Sums of at most 400 numbers below 1 with weights that sum to one, in float32: each library rounds on its own.
    assert np.abs(got - np.stack(pillow)).max() < 1e-6
    assert np.abs(got - in_torch.numpy()).max() < 1e-6  # the same sums


def test_resizing_a_volume_up_is_trilinear() -> None:
    volume = np.random.default_rng(3).normal(size=(1, 5, 6, 7)).astype(np.float32)
    got = resized(volume, (11, 6, 20))
    expected = ndimage.zoom(volume[0].astype(float), (11 / 5, 1, 20 / 7), order=1, mode="nearest", grid_mode=True)
    # Two axes of two float32 roundings each, of numbers below 4.
    assert np.abs(got[0] - expected).max() < 2e-6


def test_shrinking_averages_and_keeps_constants() -> None:
    board = np.indices((64, 64)).sum(axis=0).astype(np.float32)[None] % 2
    assert np.abs(resized(board, (8, 8)) - 0.5).max() < 0.02  # one pixel in 64 more of one colour, at the edges
    flat = np.full((1, 33, 20, 7), 0.3, dtype=np.float32)
    assert np.abs(resized(flat, (8, 21, 3)) - 0.3).max() < 1e-6  # weights sum to one, to float32
