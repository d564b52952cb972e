"""Import the package before pytest does so file by file.

By path it would import the folder `audit` last, and put the module where the package has its function of that name.
"""

import pycombat_gam  # noqa: F401  (for its effect alone, as above)
