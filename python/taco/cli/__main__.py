"""`python -m taco.cli`: the `taco` command."""

import sys

from taco.cli import main

if __name__ == "__main__":
    sys.exit(main())
