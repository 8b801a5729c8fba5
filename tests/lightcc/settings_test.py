"""LightCC's and Horovod's variables keep their names, defaults and meaning."""

import pytest
from taco.lightcc import _settings
from taco.lightcc._settings import InvalidSettingError


def test_defaults_are_those_of_lightcc_and_horovod():
    found = _settings.read({})
    assert not found.light_2d_allreduce
    assert found.light_intra_size == 8
    assert found.light_hierarchical_threshold == 1073741824
    assert not found.light_topk_allreduce
    assert found.light_topk_ratio == 0.01
    assert found.light_topk_threshold == 1048576
    assert not found.light_topk_fp16
    assert found.light_topk_warmup == 200
    assert found.fusion_threshold == 128 * 1024 * 1024
    assert found.cycle_time == 1.0
    assert (found.stall_warning, found.stall_shutdown) == (60.0, 0.0)


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("LIGHT_2D_ALLREDUCE", "1", "light_2d_allreduce", True),
        ("LIGHT_TOPK_ALLREDUCE", "0", "light_topk_allreduce", False),
        ("LIGHT_TOPK_RATIO", "0.05", "light_topk_ratio", 0.05),
        ("HOROVOD_FUSION_THRESHOLD", "0", "fusion_threshold", 0),
        ("HOROVOD_CYCLE_TIME", "3.5", "cycle_time", 3.5),
        ("HOROVOD_AUTOTUNE", "true", "autotune", True),
        ("HOROVOD_LOG_LEVEL", "debug", "log_level", "DEBUG"),
        ("HOROVOD_TIMELINE", "a b.json", "timeline", "a b.json"),
        ("HOROVOD_STALL_CHECK_TIME_SECONDS", "5", "stall_warning", 5.0),
        ("HOROVOD_STALL_CHECK_DISABLE", "1", "stall_warning", 0.0),
        ("HOROVOD_STALL_SHUTDOWN_TIME_SECONDS", "90", "stall_shutdown", 90.0),
        ("HOROVOD_STALL_SHUTDOWN_TIME_SECONDS", "30", "stall_shutdown", 0.0),
        ("LIGHT_INTRA_SIZE", "", "light_intra_size", 8),
    ],
)
def test_values(variable, text, name, value):
    assert getattr(_settings.read({variable: text}), name) == value


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("LIGHT_2D_ALLREDUCE", "perhaps"),
        ("LIGHT_INTRA_SIZE", "0"),
        ("LIGHT_TOPK_RATIO", "1.5"),
        ("LIGHT_TOPK_RATIO", "0"),
        ("HOROVOD_FUSION_THRESHOLD", "64MB"),
        ("HOROVOD_FUSION_THRESHOLD", "-1"),
        ("HOROVOD_CYCLE_TIME", "inf"),
        ("HOROVOD_LOG_LEVEL", "LOUD"),
    ],
)
def test_nonsense_names_the_variable_and_what_it_takes(variable, text):
    with pytest.raises(InvalidSettingError, match=f"{variable}={text!r}: must be "):
        _settings.read({variable: text})


def test_the_environment_is_read_once_until_refreshed(monkeypatch):
    monkeypatch.setenv("HOROVOD_CYCLE_TIME", "5")
    assert _settings.refresh().cycle_time == 5
    monkeypatch.setenv("HOROVOD_CYCLE_TIME", "6")
    assert _settings.settings().cycle_time == 5
    assert _settings.refresh().cycle_time == 6
    monkeypatch.undo()
    _settings.refresh()


def test_every_variable_is_documented():
    for variable in _settings.VARIABLES:
        assert variable.doc.endswith(".")
        assert variable.env.startswith(("LIGHT_", "HOROVOD_", "TACO_"))
        assert variable.default_text is None or variable.check(variable.default_text)
        assert variable.default_text is None or (
            variable.parse(variable.default_text) == variable.default
        )


@pytest.mark.parametrize(
    ("variable", "option"),
    [
        ("HOROVOD_TIMELINE", "--timeline"),
        ("HOROVOD_AUTOTUNE_LOG", "--autotune-log-file"),
        ("TACO_REPORT", "--report"),
    ],
)
def test_files_that_cannot_be_written_are_known_at_the_start(variable, option, tmp_path):
    _settings.read({variable: str(tmp_path / "new.json")}).check_files()
    assert list(tmp_path.iterdir()) == []
    for path, why in (
        (tmp_path / "none" / "new.json", "there is no folder"),
        (tmp_path, "it is a folder"),
    ):
        with pytest.raises(InvalidSettingError, match=f"{variable}=.*{option}.*{why}"):
            _settings.read({variable: str(path)}).check_files()


def test_a_timeline_that_the_program_starts_is_no_file():
    _settings.read({"HOROVOD_TIMELINE": "DYNAMIC"}).check_files()
