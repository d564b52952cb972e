"""Pictures of tables before and after harmonization, and of fitted models; matplotlib axes in and out.

Every function draws into the axes given, or into new ones, and returns them; nothing is shown, and no setting of
matplotlib is changed. Sites are told apart by shape as well as by colour (Okabe and Ito's), those of their place among
all sites of the model or table, the same in all pictures; where there are more than eight by their place or by name.
What is written is measured, so that it fits a journal's column (3.4 inches) as well as a page. Names that come from
data are text: a ``$`` starts no formula. matplotlib is imported with the first picture.
"""

from pycombat_gam.plot.by_site import features, travelers
from pycombat_gam.plot.effects import shrinkage, site_effects
from pycombat_gam.plot.fitted import curve
from pycombat_gam.plot.flows import fan, training
from pycombat_gam.plot.pca import components
from pycombat_gam.plot.priors import prior

__all__ = [
    "components", "curve", "fan", "features", "prior", "shrinkage", "site_effects", "training", "travelers",
]  # fmt: skip
