"""`python -m taco.lightcc.run`: the same as `taco run`."""

import sys

from taco.lightcc.run.launcher import main

sys.exit(main(sys.argv[1:], program="python -m taco.lightcc.run"))
