"""`import horovod` is LightCC where there is no Horovod, and Horovod where there is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import taco
from taco.lightcc.run import environment

SAME = """
import horovod, horovod.torch as hvd
import horovod.common.process_sets as process_sets
import horovod.torch.mpi_ops as mpi_ops
from horovod.common.exceptions import HorovodInternalError, HorovodVersionMismatchError
from horovod.common.util import env, gloo_built, split_list
from horovod.runner.util.threads import in_thread
from horovod.torch.compression import Compression
from horovod.torch.functions import broadcast_object
from horovod.torch.optimizer import DistributedOptimizer
import taco.lightcc.torch, taco.lightcc.torch.mpi_ops as first

assert horovod.__version__ == "0.28.1"
assert hvd is horovod.torch is taco.lightcc.torch and mpi_ops is first
assert hvd.__spec__.name == hvd.__name__ == "taco.lightcc.torch"
assert HorovodInternalError is hvd.HorovodInternalError
assert process_sets.ProcessSet is hvd.ProcessSet
assert Compression is hvd.Compression and DistributedOptimizer is hvd.DistributedOptimizer
assert split_list([1, 2, 3], 2) == [[1, 2], [3]]
for name in "horovod.torch.nonsense", "horovod.tensorflow":
    try:
        __import__(name)
    except ModuleNotFoundError as error:
        assert name in str(error)
    else:
        raise AssertionError(name)
hvd.init()
assert mpi_ops._basics._get_process_set_ids_and_ranks() == {0: [0]}
print(hvd.rank(), hvd.size())
"""


def test_every_name_of_horovod_is_the_same_object(taco_run, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("cloudpickle")
    (tmp_path / "script.py").write_text(SAME)
    done = taco_run("-np", "1", str(tmp_path / "script.py"))
    assert (done.returncode, done.stdout) == (0, "[0]<stdout>:0 1\n"), done.stderr


@pytest.fixture
def installed(tmp_path):
    """A folder where something else has the name `horovod`."""
    (tmp_path / "site" / "horovod").mkdir(parents=True)
    (tmp_path / "site" / "horovod" / "__init__.py").write_text("original = True\n")
    return str(tmp_path / "site")


@pytest.mark.parametrize(("options", "original"), [([], True), (["--shim"], False)])
def test_an_installed_horovod_is_not_shadowed_unless_asked(
    taco_run, environment, installed, tmp_path, options, original
):
    (tmp_path / "script.py").write_text("import horovod; print(hasattr(horovod, 'original'))")
    path = os.pathsep.join([installed, environment["PYTHONPATH"]])
    done = taco_run("-np", "1", *options, str(tmp_path / "script.py"), PYTHONPATH=path)
    assert done.stdout == f"[0]<stdout>:{original}\n", done.stderr
    assert ("--shim gives them LightCC" in done.stderr) == original


def test_another_interpreter_is_asked(tmp_path, installed):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={installed} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    assert environment.original_horovod([str(python), "x.py"]).startswith(installed)
    assert environment.original_horovod([sys.executable, "x.py"]) is None


def test_taco_itself_can_be_imported_whatever_the_folder(tmp_path):
    path = environment.python_path([sys.executable], {}, shim=False)
    assert path.split(":")[0] == str(environment.SHIM)
    subprocess.run(
        [sys.executable, "-c", "import taco, horovod"],
        cwd=tmp_path,
        env={"PYTHONPATH": path},
        check=True,
    )
    assert str(Path(taco.__file__).resolve().parents[1]) in path.split(":")
