"""An elastic job follows its hosts, survives failures, and ends when it should."""

import re

import pytest
from taco.lightcc.run import discovery
from taco.lightcc.run.discovery import HostBook
from taco.lightcc.run.hosts import Host, HostsError

# A worker without an engine: leaves the round when it hears of a change or of a failure.
WORKER = """
from taco.lightcc.run.rejoin import Rejoin
client = Rejoin(os.environ, 50)
place, folder = os.environ["TACO_ELASTIC_SLOT"], sys.argv[1]
while True:
    numbers = [os.environ[f"HOROVOD_{name}"] for name in ("RANK", "SIZE", "CROSS_RANK")]
    print("round", client.generation, place, *numbers, flush=True)
    while not (client.updated() or client.failed()):
        if os.path.exists(f"{folder}/finish"):
            sys.exit(0)
        if os.path.exists(f"{folder}/fail-{place}"):
            os.unlink(f"{folder}/fail-{place}")
            raise RuntimeError("as told")
        time.sleep(0.02)
    if not client.next():
        print("sent away", place, flush=True)
        sys.exit(0)
"""


class Job:
    """An elastic job whose hosts the test writes down."""

    def __init__(self, launch, script, folder, fake_rsh):
        self.folder = folder
        self.found = folder / "found"
        self._launch, self._script, self._rsh = launch, script, fake_rsh
        self.lines = []

    def start(self, hosts, *options):
        self.hosts(hosts)
        self.process = self._launch(
            *("--host-discovery-script", f"cat {self.found}", "--grace", "1", *options),
            *(self._script(WORKER), str(self.folder)),
            TACO_RSH=self._rsh,
        )

    def hosts(self, text):
        new = self.found.with_suffix(".new")
        new.write_text(text.replace(" ", "\n"))
        new.rename(self.found)

    def round(self, number, size):
        """Waits until all ranks of a round are there; gives `place: rank` of it."""
        seen = {}
        while len(seen) < size:
            line = self.line()
            match = re.match(r"\[(\d+)\]<stdout>:round (\d+) (\S+) (\d+) (\d+) (\d+)", line)
            if match and int(match[2]) == number:
                assert match[1] == match[4]  # what is printed is marked with the present rank
                assert int(match[5]) == size
                seen[match[3]] = int(match[4])
        return seen

    def line(self):
        line = self.process.stdout.readline().decode()
        assert line, self.process.stderr.read().decode()
        self.lines.append(line)
        return line

    def fail(self, place):
        (self.folder / f"fail-{place}").touch()

    def finish(self):
        (self.folder / "finish").touch()
        return self.end()

    def end(self):
        """Waits for the end; gives the exit code, all that ranks printed, and standard error."""
        out = (
            self.process.stdout.read()
        )  # not communicate(), which forgets what readline() buffered
        err = self.process.stderr.read()
        self.process.wait(timeout=60)
        return self.process.returncode, "".join(self.lines) + out.decode(), err.decode()


@pytest.fixture
def job(launch, script, tmp_path, fake_rsh):
    return Job(launch, script, tmp_path, fake_rsh)


def test_hosts_that_come_and_go(job):
    job.start("a:1", "-np", "1", "--min-np", "1", "--max-np", "3")
    assert job.round(1, 1) == {"a:0": 0}
    job.hosts("b:1 a:2")
    assert job.round(2, 3) == {"a:0": 0, "a:1": 1, "b:0": 2}  # a's first rank keeps its place
    job.hosts("b:1")
    assert job.round(3, 1) == {"b:0": 0}
    code, out, err = job.finish()
    assert code == 0, err
    assert "sent away a:0" in out and "sent away a:1" in out


def test_a_failing_host_is_left_out(job):
    job.start("a:1 b:2", "-np", "3", "--min-np", "1")
    job.round(1, 3)
    job.fail("b:1")
    assert job.round(2, 1) == {"a:0": 0}
    code, _, err = job.finish()
    assert code == 0
    assert re.search(r"rank 2 on b \(pid \d+\) exited with status 1; its host is left out", err)


def test_a_failing_host_may_come_back(job):
    job.start("a:1 b:1", *["-np", "2", "--min-np", "1", "--blacklist-cooldown-range", "1", "2"])
    job.round(1, 2)
    job.fail("b:0")
    job.round(2, 1)
    assert job.round(3, 2) == {"a:0": 0, "b:0": 1}
    assert job.finish()[0] == 0


def test_when_nobody_is_left_the_job_has_failed(job):
    job.start("a:1", "-np", "1", "--min-np", "1")
    job.round(1, 1)
    job.fail("a:0")
    code, _, err = job.end()
    assert code == 1
    assert "nobody is left: rank 0 on a" in err
    assert err.splitlines()[-1] == "taco run: its last words: RuntimeError: as told"


def test_too_few_slots_for_too_long(job):
    job.start("a:1 b:1", *["-np", "2", "--min-np", "2", "--elastic-timeout", "1"])
    job.round(1, 2)
    job.fail("b:0")
    code, _, err = job.end()
    assert code == 1
    assert "Requested more processes (2) than there are available slots (1)" in err


def test_the_reset_limit(job):
    job.start("a:1 b:1", *["-np", "2", "--min-np", "1", "--reset-limit", "0"])
    job.round(1, 2)
    job.fail("b:0")
    code, _, err = job.end()
    assert code == 1
    assert "its ranks changed more than 0 times" in err


def test_a_script_that_fails_at_once_is_wrong_usage(taco_run):
    done = taco_run("-np", "1", "--host-discovery-script", "echo no >&2; false", "true")
    assert done.returncode == 2
    assert "exit status 1. no" in done.stderr


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_the_book_keeps_the_order_in_which_hosts_came():
    book = HostBook()
    book.take([Host("a", 1), Host("b", 2)])
    book.take([Host("c", 1), Host("b", 3), Host("a", 1), Host("empty", 0)])
    assert book.available() == [Host("a", 1), Host("b", 3), Host("c", 1)]
    book.take([Host("c", 1)])
    assert book.available() == [Host("c", 1)]


def test_a_host_that_failed_comes_back_behind_those_that_have_the_state():
    clock = Clock()
    book = HostBook((1.0, 1.0), clock)
    found = [Host("a", 1), Host("b", 1), Host("c", 1)]
    book.take(found)
    book.blacklist("a")
    book.blacklist("never seen")
    book.take(found)
    assert book.available() == [Host("b", 1), Host("c", 1)]
    clock.now += 2.0
    book.take(found)
    assert book.available() == [Host("b", 1), Host("c", 1), Host("a", 1)]


def test_a_blacklisted_host_stays_out_for_good_without_a_cooldown():
    clock = Clock()
    book = HostBook(None, clock)
    book.take([Host("a", 1)])
    book.blacklist("a")
    clock.now += 1e9
    assert book.available() == []


def test_the_cooldown_grows_with_each_failure_up_to_its_limit():
    clock = Clock()
    book = HostBook((10.0, 25.0), clock, jitter=lambda: 0.0)
    book.take([Host("a", 1)])
    for seconds in 10.0, 20.0, 25.0, 25.0:
        book.blacklist("a")
        clock.now += seconds - 0.01
        assert book.available() == []
        clock.now += 0.02
        assert book.available() == [Host("a", 1)]


@pytest.mark.parametrize("bad", [(0.0, 5.0), (6.0, 5.0)])
def test_a_cooldown_needs_a_range(bad):
    with pytest.raises(HostsError, match="0 < MIN <= MAX"):
        HostBook(bad)


def test_changes_have_names():
    assert discovery.change(["a"], ["a"]) is None
    assert discovery.change(["a"], ["b", "a"]) == "added"
    assert discovery.change(["a", "b"], ["a"]) == "removed"
    assert discovery.change(["a"], ["b"]) == "mixed"
