"""Ranks are started with their places, and what they print is told apart."""

import json
import subprocess
import sys

import pytest

SHOW = "import json; print(json.dumps(dict(os.environ)))"


def environments(done):
    """What each rank found in its environment."""
    found = {}
    for line in done.stdout.splitlines():
        rank, _, text = line.partition("<stdout>:")
        found[int(rank.strip("[]"))] = json.loads(text)
    return [found[rank] for rank in sorted(found)]


def test_ranks_know_their_places(taco_run, script):
    done = taco_run("-np", "3", script(SHOW), OMP_NUM_THREADS="3")
    assert done.returncode == 0, done.stderr
    found = environments(done)
    assert [each["HOROVOD_RANK"] for each in found] == ["0", "1", "2"]
    for rank, each in enumerate(found):
        assert each["HOROVOD_SIZE"] == each["HOROVOD_LOCAL_SIZE"] == "3"
        assert each["HOROVOD_LOCAL_RANK"] == str(rank)
        assert (each["HOROVOD_CROSS_RANK"], each["HOROVOD_CROSS_SIZE"]) == ("0", "1")
        assert each["HOROVOD_HOSTNAME"] == "localhost"
        assert each["TACO_STORE_ADDR"] == "127.0.0.1"
        assert each["OMP_NUM_THREADS"] == "3"
    assert len({each["TACO_JOB_ID"] for each in found}) == 1


def test_a_script_gets_its_arguments_and_this_python(taco_run, script):
    path = script("print(sys.executable, sys.argv[1:])")
    done = taco_run("-np", "1", path, "--lr", "0.1", "-np", "5")
    assert done.stdout == f"[0]<stdout>:{sys.executable} ['--lr', '0.1', '-np', '5']\n"


def test_any_command_can_be_run(taco_run):
    done = taco_run("-np", "2", "sh", "-c", "echo $HOROVOD_RANK of $HOROVOD_SIZE >&2")
    assert sorted(done.stderr.splitlines()) == ["[0]<stderr>:0 of 2", "[1]<stderr>:1 of 2"]


def test_two_hosts_by_a_remote_shell(taco_run, script, fake_rsh, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = taco_run(
        *("-np", "3", "-H", "one:2,two:2", "--rack", "one=north", "--rack", "two=south"),
        *("--ssh-port", "2222", "--network-interface", "lo", script(SHOW + "\nprint(os.getcwd())")),
        TACO_RSH=f"{fake_rsh} -q",
        SETTING="with 'quotes' and \"spaces\"",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"<stdout>:{tmp_path}\n") == 3
    done.stdout = "\n".join(line for line in done.stdout.splitlines() if "{" in line)
    found = environments(done)
    names = ["RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE", "CROSS_RANK", "CROSS_SIZE", "HOSTNAME"]
    assert [[each[f"HOROVOD_{name}"] for name in names] for each in found] == [
        ["0", "3", "0", "2", "0", "2", "one"],
        ["1", "3", "1", "2", "0", "1", "one"],
        ["2", "3", "0", "1", "1", "2", "two"],
    ]
    assert [each["TACO_RACK"] for each in found] == ["north", "north", "south"]
    assert [each["RSH_HOST"] for each in found] == ["one", "one", "two"]
    assert {each["RSH_OPTIONS"] for each in found} == {"-q -p 2222"}
    assert {each["SETTING"] for each in found} == {"with 'quotes' and \"spaces\""}
    assert {each["TACO_LOCAL_SIZES"] for each in found} == {"2,1"}
    assert {each["HOROVOD_GLOO_IFACE"] for each in found} == {"lo"}


def test_lines_are_not_mixed_and_bytes_are_kept_here_and_in_files(launch, script, tmp_path):
    text = r"""
for _ in range(200):
    os.write(1, bytes([65 + rank]) * 50)
    os.write(1, b"\xff\x00\n" if rank else b"\n")
os.write(2, b"no end")
"""
    process = launch("-np", "2", "--output-filename", str(tmp_path / "logs"), script(text))
    out, err = process.communicate(timeout=60)
    lines = [b"A" * 50 + b"\n", b"B" * 50 + b"\xff\x00\n"]
    for rank in 0, 1:
        label = b"[%d]<stdout>:" % rank
        assert out.splitlines(keepends=True).count(label + lines[rank]) == 200
        folder = tmp_path / "logs" / f"rank.{rank}"
        assert (folder / "stdout").read_bytes() == lines[rank] * 200
        assert (folder / "stderr").read_bytes() == b"no end"
    assert sorted(err.splitlines()) == [b"[0]<stderr>:no end", b"[1]<stderr>:no end"]


@pytest.mark.parametrize(
    ("option", "variable", "text"),
    [
        (["--fusion-threshold-mb", "32"], "HOROVOD_FUSION_THRESHOLD", str(32 << 20)),
        (["--cycle-time-ms", "3.5"], "HOROVOD_CYCLE_TIME", "3.5"),
        (["--timeline", "t.json"], "HOROVOD_TIMELINE", "t.json"),
        (["--timeline-filename", "t.json"], "HOROVOD_TIMELINE", "t.json"),
        (["--no-stall-check"], "HOROVOD_STALL_CHECK_DISABLE", "1"),
        (["--stall-check-warning-time-seconds", "5"], "HOROVOD_STALL_CHECK_TIME_SECONDS", "5"),
        (["--autotune"], "HOROVOD_AUTOTUNE", "1"),
        (["--log-level", "debug"], "HOROVOD_LOG_LEVEL", "DEBUG"),
        (["--start-timeout", "77"], "HOROVOD_START_TIMEOUT", "77"),
        (["--report", "/tmp/r.json"], "TACO_REPORT", "/tmp/r.json"),
        (["--hierarchical-allreduce"], "HOROVOD_HIERARCHICAL_ALLREDUCE", "1"),
        (["--no-hierarchical-allreduce"], "HOROVOD_HIERARCHICAL_ALLREDUCE", "0"),
    ],
)
def test_options_become_variables(option, variable, text):
    from taco.lightcc.run import launcher, options

    parsed = options.parser("taco run", {}).parse_args(["-np", "1", *option, "x.py"])
    assert launcher._variables(parsed)[variable] == text


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        ([], "no command"),
        (["-np", "2"], "no command"),
        (["true"], "say how many ranks: -np N"),
        (["-np", "0", "true"], "-np/--num-proc: must be a whole number from 1, not '0'"),
        (["-np", "two", "true"], "must be a whole number from 1, not 'two'"),
        (["-np", "5", "-H", "a:2,b:2", "true"], "Requested more processes (5) than there are"),
        (["-np", "1", "-H", "a:b", "true"], "is not like worker-0:2,worker-1:2"),
        (["-np", "1", "--hostfile", "/nonsense", "true"], "No such file"),
        (["-np", "1", "--rack", "north", "true"], "is not like host1=north"),
        (["-np", "1", "-H", "a:1", "--network-interface", "none0", "true"], "interface 'none0'"),
    ],
)
def test_wrong_usage_says_what_is_right(arguments, wrong, capsys):
    from taco.cli import commands

    assert commands.run(["run", *arguments]) == 2
    assert wrong in capsys.readouterr().err


def test_a_variable_that_holds_nonsense_is_named_before_anything_starts(monkeypatch, capsys):
    from taco.cli import commands

    monkeypatch.setenv("LIGHT_TOPK_RATIO", "much")
    assert commands.run(["run", "-np", "1", "true"]) == 2
    assert "LIGHT_TOPK_RATIO='much': must be a number from 0" in capsys.readouterr().err


def test_without_pytorch_one_sentence_says_what_to_install(monkeypatch, capsys):
    from taco.cli import commands
    from taco.lightcc.run import launcher

    monkeypatch.setattr(launcher.importlib.util, "find_spec", lambda name: None)
    assert commands.run(["run", "-np", "2", "true"]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and "pip install torch==2.13" in error


def test_the_store_is_shared_by_all_ranks(taco_run, script):
    text = """
from taco.lightcc import topology
store = topology.open_store(topology.detect(os.environ), 50)
store.set(f"from{rank}", str(rank))
print([store.get(f"from{each}").decode() for each in range(size)])
store.add("done", 1)
"""
    done = taco_run("-np", "2", script(text))
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [f"[{rank}]<stdout>:['0', '1']" for rank in (0, 1)]


def test_an_early_end_that_is_no_failure_ends_nobody_else(taco_run, script, tmp_path):
    text = f"""
import pathlib
flag = pathlib.Path({str(tmp_path / "over")!r})
if rank == 0:
    flag.touch()
    sys.exit(0)
while not flag.exists():
    time.sleep(0.01)
time.sleep(0.5)
print("went on")
"""
    done = taco_run("-np", "2", script(text))
    assert (done.returncode, done.stdout) == (0, "[1]<stdout>:went on\n")


def test_a_function_can_be_run(environment):
    code = """
import operator, os
from taco.lightcc.run import function
assert function.run(operator.add, (1, 2), num_proc=2) == [3, 3]
assert function.run(os.getenv, ("HOROVOD_RANK",), num_proc=2) == ["0", "1"]
try:
    function.run(os._exit, (3,), num_proc=1)
except RuntimeError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "ended with exit code 3" in done.stdout
    assert "rank 0 on localhost" in done.stderr
