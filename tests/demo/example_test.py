"""examples/deepfm_keras.py: runs as it stands, with TACO's layer and with Keras' own.

Both runs need TACO's library (see main_test.py for where it is looked for).
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "deepfm_keras.py"


@pytest.mark.parametrize("options", [[], ["--stock"]])
def test_the_example_learns(options):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TF_CPP_MIN_LOG_LEVEL": "2"}
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), *options], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    aucs = re.findall(r"val_auc: ([0-9.]+)", done.stdout)
    assert len(aucs) == 2 and float(aucs[-1]) > 0.7
