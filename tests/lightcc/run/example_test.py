"""examples/pytorch_mnist_like.py: written for Horovod, runs as it stands, and learns."""

import importlib.util
import re
from pathlib import Path

import pytest

NEEDED = ("torch", "cloudpickle")
pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, NEEDED)), reason=f"needs {' and '.join(NEEDED)}"
)
EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "pytorch_mnist_like.py"


@pytest.mark.parametrize("options", [[], ["--fp16-allreduce", "--gradient-predivide-factor", "2"]])
def test_the_example_learns(taco_run, options):
    assert "taco" not in re.findall(r"^(?:import|from) (\w+)", EXAMPLE.read_text(), re.MULTILINE)
    done = taco_run("-np", "2", str(EXAMPLE), *options, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    accuracies = [float(each) for each in re.findall(r"accuracy ([0-9.]+)%", done.stdout)]
    assert len(accuracies) == 4
    assert accuracies[-1] > 90.0
