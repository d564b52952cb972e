"""How the doctor's table is set."""

from __future__ import annotations

from r_bridge.checkup import PACKAGES, Checkup
from r_bridge.session import how_to_get


def test_versions_of_any_length_stand_apart() -> None:
    versions = {**dict.fromkeys(PACKAGES, "1.0"), "longCombat": "0.0.0.90000", "gamlss": None}
    said = str(Checkup("/usr/lib/R", "4.2.2", "3.6.4", True, versions, (), ()))
    rows = [line for line in said.splitlines() if line.split(" ")[0] in PACKAGES]
    assert [row.split()[:3] for row in rows] == [[n, v or "missing", "for"] for n, v in versions.items()]
    assert len({row.index(" for ") for row in rows}) == 1


def test_gamlss_comes_from_cran() -> None:
    assert "combatls" in PACKAGES["gamlss"]
    assert how_to_get("gamlss").startswith('Rscript -e \'install.packages("gamlss"')
