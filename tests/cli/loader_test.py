"""The loader looks where it says, in the order it says, and its errors name a remedy."""

import threading

import pytest
from taco import _loader, _tunables

TF = _loader.artefact("tf")


@pytest.fixture(autouse=True)
def outside_bazel(monkeypatch):
    """As in a program that Bazel does not run; the test of runfiles undoes it."""
    monkeypatch.setattr(_loader, "_runfile", lambda path: None)


@pytest.fixture
def tree(tmp_path):
    """A source tree with no library in it: its root."""
    (tmp_path / "tree/python/taco/lib").mkdir(parents=True)
    (tmp_path / "tree/bazel-bin/tf_ops").mkdir(parents=True)
    (tmp_path / "tree/WORKSPACE").touch()
    return tmp_path / "tree"


def search(tree, **environ):
    return _loader.search(TF, _tunables.read(environ), tree / "python/taco")


def test_order_of_the_places(tree, tmp_path, monkeypatch):
    override = tmp_path / "mine.so"
    folder = tmp_path / "folder"
    folder.mkdir()
    runfile = tmp_path / "runfiles.so"
    monkeypatch.setattr(_loader, "_runfile", lambda path: runfile)
    environ = {"TACO_TF_LIBRARY": str(override), "TACO_LIBRARY_PATH": f"{tmp_path}:{folder}"}
    places = [
        ("named by the environment", override),
        ("TACO_LIBRARY_PATH", tmp_path / "libtaco_tf.so"),
        ("TACO_LIBRARY_PATH", folder / "libtaco_tf.so"),
        ("Bazel runfiles", runfile),
        ("installed package", tree / "python/taco/lib/libtaco_tf.so"),
        ("source tree", tree / "bazel-bin/tf_ops/libtaco_tf.so"),
    ]
    for _, path in places:
        path.touch()
    while places:
        found = search(tree, **environ)
        assert (found.place, found.path) == places[0]
        places.pop(0)[1].unlink()
        environ.pop("TACO_TF_LIBRARY", None)
    assert search(tree, **environ).path is None


def test_runfiles_are_asked_for_the_library_by_its_place_in_the_workspace(tree, monkeypatch):
    asked = []
    monkeypatch.setattr(_loader, "_runfile", asked.append)
    search(tree)
    assert asked == ["taco/tf_ops/libtaco_tf.so"]


def test_an_installed_package_does_not_look_for_a_source_tree(tree):
    (tree / "WORKSPACE").unlink()
    (tree / "bazel-bin/tf_ops/libtaco_tf.so").touch()
    found = search(tree)
    assert found.path is None
    assert [place for place, _ in found.looked] == ["installed package"]


def test_not_found_lists_the_places_and_the_remedies(tree, tmp_path):
    text = _loader.not_found_message(search(tree, TACO_LIBRARY_PATH=str(tmp_path)))
    for part in (
        str(tmp_path / "libtaco_tf.so"),
        str(tree / "python/taco/lib/libtaco_tf.so"),
        str(tree / "bazel-bin/tf_ops/libtaco_tf.so"),
        "make build",
        "wheel",
        "TACO_TF_LIBRARY",
    ):
        assert part in text


def test_the_library_with_dpdk_is_where_the_plugin_opens_it(tree, tmp_path):
    dpdk, package = _loader.artefact("harp_dpdk"), tree / "python/taco"
    (package / "lib/libharp-dpdk.so").touch()
    (tree / "bazel-bin/nccl_plugin").mkdir()
    (tree / "bazel-bin/nccl_plugin/libnccl-net-harp.so").touch()
    found = _loader.search(dpdk, _tunables.read({}), package)
    assert (found.path, len(found.looked)) == (None, 1)
    assert "beside libnccl-net-harp.so" in _loader.not_found_message(found)
    beside = tree / "bazel-bin/nccl_plugin/libharp-dpdk.so"
    beside.touch()
    found = _loader.search(dpdk, _tunables.read({}), package)
    assert (found.place, found.path) == ("source tree", beside)


def test_a_named_file_that_is_absent_is_an_error_and_no_other_file_is_taken(tree, tmp_path):
    (tree / "python/taco/lib/libtaco_tf.so").touch()
    with pytest.raises(_tunables.InvalidTunableError, match="TACO_TF_LIBRARY=.*exists"):
        search(tree, TACO_TF_LIBRARY=str(tmp_path / "absent.so"))


def test_library_path_raises_a_file_not_found_error(monkeypatch, tree):
    nothing = search(tree)
    monkeypatch.setattr(_loader, "search", lambda wanted: nothing)
    with pytest.raises(FileNotFoundError, match="make build"):
        _loader.library_path("tf")


def test_an_artefact_has_two_names():
    assert _loader.artefact("harp") is _loader.artefact("libnccl-net-harp.so")
    with pytest.raises(ValueError, match=r"no library named 'tff'.*libtaco_tf.so \(tf\)"):
        _loader.artefact("tff")


@pytest.mark.parametrize(
    ("said", "version", "remedy"),
    [
        ("/x.so: undefined symbol: _ZN10tensorflow3FooE", "2.21.0", "another TensorFlow"),
        ("/x.so: undefined symbol: _ZN10tensorflow3FooE", "2.20.0", "tensorflow==2.21.0"),
        ("libfoo.so.1: cannot open shared object file", "2.21.0", "missing from this machine"),
        ("version `GLIBC_2.99' not found", "2.21.0", "newer system"),
        ("/x.so: invalid ELF header", "2.21.0", "damaged"),
        ("anything else", "2.21.0", "taco doctor"),
    ],
)
def test_explain_names_file_remedy_and_what_was_said(tmp_path, said, version, remedy):
    text = _loader.explain(tmp_path / "libtaco_tf.so", said, version)
    assert str(tmp_path / "libtaco_tf.so") in text
    assert version in text
    assert remedy in text
    assert said in text


def test_explain_leaves_the_library_s_own_version_check_alone(tmp_path):
    said = "libtaco_tf.so was built for TensorFlow 2.21.0, this is 2.20.0: install that one"
    assert _loader.explain(tmp_path / "libtaco_tf.so", said, "2.20.0") == said


def test_without_tensorflow_the_error_says_what_to_install(python, tmp_path):
    library = tmp_path / "libtaco_tf.so"
    library.touch()
    code = """
import sys
sys.modules["tensorflow"] = None  # importing it now raises ModuleNotFoundError
from taco import _loader
try:
    _loader.load_tf_ops()
except _loader.LibraryLoadError as error:
    print(error)
"""
    done = python("-c", code, TACO_TF_LIBRARY=str(library))
    assert "pip install tensorflow==2.21.0" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("said", "version", "remedy"),
    [
        ("/x.so: undefined symbol: _ZN3c103FooE", "2.13.0+cpu", "another PyTorch"),
        ("/x.so: undefined symbol: _ZN3c103FooE", "2.12.1", "torch==2.13.0"),
        ("/x.so: invalid ELF header", "2.13.1", "damaged"),
    ],
)
def test_explain_speaks_of_pytorch_too(tmp_path, said, version, remedy):
    text = _loader.explain(tmp_path / "libtaco_torch.so", said, version, "PyTorch")
    assert f"PyTorch {version}" in text
    assert remedy in text
    assert said in text
    assert "TensorFlow" not in text


PRETEND = """
import sys, types
sys.modules["torch"] = {torch}
from taco import _loader
try:
    _loader.load_torch_ops()
except _loader.LibraryLoadError as error:
    print(error)
"""


def test_without_pytorch_the_error_says_what_to_install(python, tmp_path):
    library = tmp_path / "libtaco_torch.so"
    library.touch()
    done = python("-c", PRETEND.format(torch="None"), TACO_TORCH_LIBRARY=str(library))
    assert "pip install torch==2.13.0" in done.stdout, done.stderr


def test_another_pytorch_is_refused_before_anything_is_loaded(python, tmp_path):
    library = tmp_path / "libtaco_torch.so"
    library.touch()
    torch = "types.SimpleNamespace(__version__='2.12.0+cpu')"
    done = python("-c", PRETEND.format(torch=torch), TACO_TORCH_LIBRARY=str(library))
    assert "does not load into PyTorch 2.12.0+cpu: TACO is built for 2.13.0" in done.stdout


@pytest.mark.parametrize("load", ["load_tf_ops", "load_torch_ops"])
def test_an_invalid_simd_level_is_refused_before_anything_is_loaded(python, load):
    code = f"from taco import _loader; _loader.{load}()"
    done = python("-c", code, TACO_SIMD="avx1024")
    assert done.returncode != 0
    assert "TACO_SIMD='avx1024': must be one of baseline, avx2, avx512" in done.stderr


def test_the_ops_are_loaded_once_by_however_many_threads():
    modules = []
    threads = [
        threading.Thread(target=lambda: modules.append(_loader.load_tf_ops())) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(modules) == 4
    assert len({id(module) for module in modules}) == 1
    assert hasattr(modules[0], "taco_table_gather")
