"""Pictures of tables before and after harmonization, and of fitted models; matplotlib axes in and out.

Each function draws into the given axes, or into new ones, and returns them. It shows nothing and changes no setting of
matplotlib. Sites differ in shape as well as colour (Okabe and Ito's). Their place among all sites of the model or table
sets both, so a site looks the same in all pictures. More than eight sites are told apart by position or name. Text is
measured, so that it fits a journal's column (3.4 inches) as well as a page. Names from data are plain text: a ``$``
starts no formula. matplotlib is imported with the first picture.
"""

from pycombat_gam.plot.by_site import features, travelers
from pycombat_gam.plot.effects import shrinkage, site_effects
from pycombat_gam.plot.fitted import curve
from pycombat_gam.plot.flows import fan, training
from pycombat_gam.plot.pca import components
from pycombat_gam.plot.prediction import calibration, coverage, decision_curve, site_forest
from pycombat_gam.plot.priors import prior
from pycombat_gam.plot.tested import forest, volcano

__all__ = [
    "calibration", "components", "coverage", "curve", "decision_curve", "fan", "features", "forest", "prior",
    "shrinkage", "site_effects", "site_forest", "training", "travelers", "volcano",
]  # fmt: skip
