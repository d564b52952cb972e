"""Draw the pictures of the README: ``python vignettes/pictures.py [folder]``, by default into `vignettes/images`."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import pycombat_gam as pcg

DPI = 110


def draw(folder: Path) -> None:
    """Write one PNG per picture."""
    table = pcg.datasets.load_multisite()
    model = pcg.ComBat("~ s(age) + sex + dx + icv", batch="site", id="subject", features="_thickness$")
    harmonized = model.fit_transform(table)
    feature = "lh_precuneus_thickness"
    folder.mkdir(parents=True, exist_ok=True)

    figure, axes = plt.subplots(1, 2, figsize=(8.6, 3.6), layout="constrained")
    pcg.plot.features(table, harmonized, feature=feature, batch="site", model=model, axes=axes)
    figure.savefig(folder / "before_after.png", dpi=DPI, metadata={"Software": None})

    figure, ax = plt.subplots(figsize=(8.6, 3.8), layout="constrained")
    pcg.plot.curve(model, table, feature, "age", ax=ax)
    figure.savefig(folder / "age_curve.png", dpi=DPI, metadata={"Software": None})
    plt.close("all")


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "images")
