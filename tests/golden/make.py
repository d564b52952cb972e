"""Write the models and the output that `test_golden.py` reads: once per file format.

Run ``PYTHONPATH=tests python tests/golden/make.py``.

A saved model of every released format stays here and has to load and to answer as on the day it was saved.
"""

from __future__ import annotations

from pathlib import Path

from helpers.study import FEATURES, study

import pycombat_gam as pcg
from pycombat_gam.saving.container import NEWEST

HERE = Path(__file__).parent


def main() -> None:
    """Fit a model that has a bit of everything, save it, and harmonize ten rows; likewise a small flow."""
    table = pcg.datasets.load_multisite()
    features = [name for name in table if name.endswith("_thickness")][:6]
    model = pcg.ComBat(
        "~ poly(age, 2) + ns(icv, df=3) + sex*dx", batch="site", features=features, id="subject", ref_batch="Ghent"
    )
    model.fit(table).save(HERE / f"combat-{NEWEST}.pcg")
    rows = table.iloc[::41]
    rows.to_csv(HERE / f"combat-{NEWEST}-input.csv", index=False)
    model.transform(rows)[features].to_csv(HERE / f"combat-{NEWEST}-output.csv", index=False)

    rows = study().iloc[::2]
    scm = pcg.FlowSCM(
        "~ age + sex", batch="site", id="subject", features=FEATURES, flow_options={"variant": "residual"},
        training={"max_epochs": 2},
    )  # fmt: skip
    scm.fit(study(), progress=False).save(HERE / f"flow-{NEWEST}.pcg")
    rows.to_csv(HERE / f"flow-{NEWEST}-input.csv", index=False)
    scm.transform(rows)[FEATURES].to_csv(HERE / f"flow-{NEWEST}-output.csv", index=False)


if __name__ == "__main__":
    main()
