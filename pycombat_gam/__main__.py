"""`python -m pycombat_gam`: the command line."""

from pycombat_gam.cli import main

if __name__ == "__main__":
    main()
