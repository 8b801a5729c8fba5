"""However a job ends, it says why, and leaves no process behind."""

import os
import random
import re
import signal
import time

import pytest

# Ranks with children of every kind: in the group, in sessions of their own, deaf to SIGTERM.
FAMILY = """
deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)"
subprocess.Popen(["sleep", "1000"])
subprocess.Popen(["sleep", "1000"], start_new_session=True)
subprocess.Popen([sys.executable, "-S", "-c", deaf], start_new_session=True)
print("ready", os.getpid(), os.getppid(), flush=True)
"""


def ready(process, count):
    """Waits until so many ranks run; gives the pids of each and of its keeper."""
    found = {}
    while len(found) < count:
        line = process.stdout.readline().decode()
        assert line, process.stderr.read()
        match = re.fullmatch(r"\[(\d+)\]<stdout>:ready (\d+) (\d+)\n", line)
        if match:
            found[int(match[1])] = (int(match[2]), int(match[3]))
    return found


def test_a_failure_ends_the_job_and_is_explained_last(taco_run, script):
    text = "if rank == 1:\n    raise RuntimeError('boom')\ntime.sleep(1000)"
    done = taco_run("-np", "3", script(text))
    assert done.returncode == 1
    last, words = done.stderr.splitlines()[-2:]
    assert re.search(
        r"the job of 3 ranks ended because rank 1 on localhost \(pid \d+\) exited with status 1",
        last,
    )
    assert words == "taco run: its last words: RuntimeError: boom"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_signal_is_named(taco_run, script, number):
    done = taco_run(
        "-np",
        "2",
        script(f"os.kill(os.getpid(), {int(number)}) if rank == 0 else time.sleep(1000)"),
    )
    assert done.returncode == 128 + number
    assert "rank 0 on localhost (pid " in done.stderr.splitlines()[-1]
    assert f"was killed by {number.name}" in done.stderr.splitlines()[-1]


def test_the_exit_status_is_the_ranks(taco_run, script):
    assert taco_run("-np", "2", script("sys.exit(42 if rank else 0)")).returncode == 42


def test_what_cannot_be_started_is_named(taco_run):
    done = taco_run("-np", "1", "/nonsense/program")
    assert done.returncode == 127
    assert "could not be started: " in done.stderr
    assert "No such file" in done.stderr.splitlines()[-1]


def test_a_host_that_cannot_be_reached_is_named(taco_run, script, fake_rsh):
    done = taco_run(
        *("-np", "2", "-H", "one:1,unreachable:1", script("time.sleep(1000)")), TACO_RSH=fake_rsh
    )
    assert done.returncode != 0
    assert "rank 1 on unreachable could not be started: fake: connect to" in done.stderr


def test_a_failure_that_follows_from_another_is_not_blamed(taco_run, script, tmp_path):
    text = f"""
import pathlib
flag = pathlib.Path({str(tmp_path / "failed")!r})
if rank == 0:
    class HorovodInternalError(RuntimeError): pass
    try:
        raise HorovodInternalError("rank 1 is gone")
    finally:
        flag.touch()
while not flag.exists():
    pass
time.sleep(0.1)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = taco_run("-np", "2", script(text))
    assert "rank 1 on localhost" in done.stderr.splitlines()[-1]
    assert "was killed by SIGKILL" in done.stderr.splitlines()[-1]


def test_a_rank_has_time_to_end_well(taco_run, script):
    text = """
def leave(*_):
    print("left", flush=True)
    sys.exit(0)
if rank == 0:
    signal.signal(signal.SIGTERM, leave)
    print("listening", flush=True)
    time.sleep(1000)
sys.exit(3)
"""
    text = text.replace("sys.exit(3)", "time.sleep(1)\nsys.exit(3)")
    done = taco_run("-np", "2", "--grace", "30", script(text))
    assert done.stdout.splitlines() == ["[0]<stdout>:listening", "[0]<stdout>:left"]
    assert done.returncode == 3


def test_what_ranks_leave_is_ended_though_all_went_well(taco_run, script):
    assert taco_run("-np", "2", "--grace", "0.2", script(FAMILY)).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_launcher_ends_all(launch, script, number):
    process = launch("-np", "2", "--grace", "0.2", script(FAMILY + "time.sleep(1000)"))
    ready(process, 2)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"got {number.name}; ending 2 ranks" in err.decode()


def test_a_launcher_that_is_killed_takes_all_with_it(launch, script, fake_rsh, survivors):
    process = launch(
        *("-np", "2", "--grace", "0.2", "-H", "localhost:1,other:1"),
        script(FAMILY + "time.sleep(1000)"),
        TACO_RSH=fake_rsh,
    )
    ready(process, 2)
    process.kill()
    assert survivors() == []


def test_twenty_random_kills_leave_nothing(launch, script, fake_rsh, survivors):
    """Ranks, their keepers and launchers are killed, at any time from the start on."""
    random.seed(20)
    path = script(FAMILY + "time.sleep(1000)")
    for _ in range(20):
        process = launch(
            *("-np", "3", "--grace", "0.2", "-H", "localhost:2,other:1", path), TACO_RSH=fake_rsh
        )
        if random.random() < 0.3:  # while it starts
            time.sleep(random.random() * 0.3)
            process.send_signal(random.choice([signal.SIGKILL, signal.SIGTERM]))
        else:
            pids = [process.pid, *(pid for pair in ready(process, 3).values() for pid in pair)]
            os.kill(random.choice(pids), random.choice([signal.SIGKILL, signal.SIGTERM]))
        process.communicate(timeout=60)
        assert process.returncode != 0
        assert survivors() == []


def test_a_reader_that_goes_away_ends_the_job(launch, script):
    process = launch("-np", "2", script("while True:\n    print('x' * 1000, flush=True)"))
    process.stdout.readline()
    process.stdout.close()
    process.wait(timeout=60)


def test_ranks_that_are_late_are_named(launch, fake_rsh, tmp_path, script):
    slow = tmp_path / "slow_rsh"
    slow.write_text("#!/bin/sh\nexec sleep 1000\n")
    slow.chmod(0o755)
    process = launch(
        *("-np", "2", "-H", "localhost:1,far:1", "--start-timeout", "0.5", "--grace", "0.2"),
        script("time.sleep(1000)"),
        TACO_RSH=str(slow),
    )
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "not started in time: rank 1 on far. --start-timeout S gives more time." in err.decode()
