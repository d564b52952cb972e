"""Model files rebuilt with matching hashes: what a forger would write, for tests that each is refused."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pycombat_gam as pcg
from pycombat_gam.errors import ModelFileError

Entries = dict[str, bytes]


def read(path: Path) -> Entries:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def forge(
    path: Path, entries: Entries, manifest: dict[str, Any] | None = None, *, compression: int = zipfile.ZIP_STORED
) -> None:
    """Write entries as a model file whose manifest and hashes are right."""
    stated = json.loads(entries["manifest.json"])
    stated.pop("digest")
    for name in stated["entries"]:
        content = entries.get(name, b"")
        stated["entries"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    stated |= manifest or {}
    stated["digest"] = hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in {**entries, "manifest.json": json.dumps(stated).encode()}.items():
            archive.writestr(name, content)


def forge_model(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    entries = read(path)
    model = json.loads(entries["model.json"])
    edit(model)
    entries["model.json"] = json.dumps(model).encode()
    forge(path, entries)


def forge_arrays(path: Path, **changes: Callable[[np.ndarray], np.ndarray] | None) -> None:
    entries = read(path)
    with np.load(io.BytesIO(entries["arrays.npz"])) as arrays:
        kept = {name: arrays[name] for name in arrays.files}
    for name, change in changes.items():
        if change is None:
            del kept[name]
        else:
            kept[name] = change(kept.get(name, np.zeros(1)))
    out = io.BytesIO()
    np.savez(out, **kept)  # type: ignore[arg-type]
    entries["arrays.npz"] = out.getvalue()
    forge(path, entries)


def refused(path: Path, says: str = ".") -> None:
    with pytest.raises(ModelFileError, match=says) as caught:
        pcg.load(path)
    assert "model.pcg" in str(caught.value)
    assert "\n" not in str(caught.value)


def nan(a: np.ndarray) -> np.ndarray:
    return np.where(np.arange(a.size).reshape(a.shape) == 0, np.nan, a)
