"""`python -m taco.demo`."""

import sys

from taco.demo import main

if __name__ == "__main__":
    sys.exit(main())
