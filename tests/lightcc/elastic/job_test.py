"""Elastic jobs of `taco run`: training goes on to the right end, whoever comes and goes."""

import re

import pytest
import torch

STEPS = 12

# Every rank has the same data, so that the number of ranks does not change the result.
TRAIN = """
folder, host = sys.argv[1], os.environ["HOROVOD_HOSTNAME"]
torch.manual_seed(hvd.rank())  # only rank 0's model counts
model = torch.nn.Linear(3, 1)
if os.path.exists(f"{folder}/first"):
    model = torch.nn.Linear(3, 1)  # a newcomer's is another one
optimizer = hvd.DistributedOptimizer(
    torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
    model.named_parameters(),
    groups=GROUPS,
)
state = hvd.elastic.TorchState(model, optimizer, batch=0)
resets = []
state.register_reset_callbacks([lambda: resets.append(hvd.size())])


def hosts(text):
    with open(f"{folder}/new", "w") as file:
        file.write(text)
    os.rename(f"{folder}/new", f"{folder}/hosts")


@hvd.elastic.run
def train(state):
    while state.batch < STEPS:
        at(state)
        optimizer.zero_grad()
        x = torch.arange(6.0).reshape(2, 3) * (state.batch + 1) / STEPS
        model(x).square().mean().backward()
        optimizer.step()
        state.batch += 1
        state.commit()
    return "done"


def report():
    weights = [round(w, 5) for p in model.parameters() for w in p.detach().flatten().tolist()]
    print(f"END {host} {state.batch} {resets} {weights}", flush=True)
"""


def expected():
    """What one rank without any of it comes to."""
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for batch in range(STEPS):
        optimizer.zero_grad()
        x = torch.arange(6.0).reshape(2, 3) * (batch + 1) / STEPS
        model(x).square().mean().backward()
        optimizer.step()
    return [w for p in model.parameters() for w in p.detach().flatten().tolist()]


def ends(done):
    """`host: (batch, resets, weights)` of the ranks that came to the end."""
    found = re.findall(r"END (\S+) (\d+) (\[.*?\]) (\[.*?\])", done.stdout)
    return {
        host: (int(batch), eval(resets), eval(weights)) for host, batch, resets, weights in found
    }


def program(at, groups=None):
    head = f"STEPS, GROUPS = {STEPS}, {groups}\n"
    return f"{head}{TRAIN}\n{at}\nassert train(state) == 'done'\nreport()\n"


def check(done, host, resets):
    assert done.returncode == 0, done.stdout + done.stderr
    batch, seen, weights = ends(done)[host]
    assert batch == STEPS
    assert resets is None or seen == resets
    assert weights == pytest.approx(expected(), abs=1e-4)


@pytest.mark.parametrize(("victim", "survivor"), [("a", "b"), ("b", "a")])
def test_when_a_rank_is_killed_the_others_go_on_from_the_last_commit(taco_run, victim, survivor):
    at = f"""
def at(state):
    if state.batch == 5 and host == "{victim}":
        os.kill(os.getpid(), signal.SIGKILL)
"""
    done = taco_run(["-np", "2", "--min-np", "1", "-H", "a:1,b:1"], program(at))
    check(done, survivor, [1])
    assert "was killed by SIGKILL; its host is left out" in done.stderr


def test_a_host_that_comes_back_gets_the_state_and_the_process_sets(taco_run):
    """In the second round the second set has no rank, and the first one is the whole job."""
    at = """
def at(state):
    for each in first, second:
        if hvd.size() == 1 and each is second:
            try:
                each.included()
            except ValueError as error:
                assert "the job has ranks 0 to 0 now, and not [1]" in str(error), error
            else:
                raise AssertionError("there is no rank 1")
        elif each.included():
            assert hvd.allreduce(torch.tensor(3.0), op=hvd.Sum, process_set=each) == 3.0
    if state.batch == 5 and host == "a":
        os.kill(os.getpid(), signal.SIGKILL)
    while state.batch == 8 and len(resets) == 1:
        state.check_host_updates()
"""
    cooldown = ["--blacklist-cooldown-range", "1", "2"]
    done = taco_run(
        ["-np", "2", "--min-np", "1", "-H", "a:1,b:1", *cooldown],
        program(at),
        init="""
first, second = hvd.ProcessSet([0]), hvd.ProcessSet([1])
hvd.init(process_sets=[first, second])
""",
    )
    check(done, "b", [1, 2])
    check(done, "a", [])


def test_what_was_not_committed_is_done_again(taco_run):
    at = """
def at(state):
    if state.batch == 5 and hvd.size() == 2:
        if host == "b":
            os.kill(os.getpid(), signal.SIGKILL)
        with torch.no_grad():
            model.weight.zero_()
"""
    check(taco_run(["-np", "2", "--min-np", "1", "-H", "a:1,b:1"], program(at)), "a", [1])


def test_hosts_come_and_go(taco_run, tmp_path):
    """The newcomers make their groups while the others wait; one dies before it gets there."""
    (tmp_path / "hosts").write_text("a:1\n")
    first = """
if os.environ["HOROVOD_HOSTNAME"] == "c":
    os.kill(os.getpid(), signal.SIGKILL)
"""
    at = """
def at(state):
    if state.batch == 5 and hvd.size() == 1:
        open(f"{folder}/first", "w").close()
        hosts("a:1\\nc:1\\nb:1\\n")
        while True:
            state.check_host_updates()
    if state.batch == 8 and hvd.size() == 2:
        if host == "a":
            hosts("a:1\\n")
        while True:
            state.check_host_updates()
"""
    script = f"cat {tmp_path}/hosts"
    options = ["-np", "1", "--min-np", "1", "--max-np", "2", "--host-discovery-script", script]
    done = taco_run(options, program(at, groups=2), first=first)
    check(done, "a", [2, 1])
    assert "c:0 was killed by SIGKILL, before all ranks of the round had met" in done.stderr
    assert "b" not in ends(done)  # it was sent away


def test_the_exit_of_the_first_host_moves_rank_0(taco_run, tmp_path):
    (tmp_path / "hosts").write_text("a:1\nb:1\n")
    at = """
def at(state):
    if state.batch == 5 and hvd.size() == 2:
        if hvd.rank() == 0:
            hosts("b:1\\n")
        while True:
            state.check_host_updates()
"""
    script = f"cat {tmp_path}/hosts"
    options = ["-np", "2", "--min-np", "1", "--host-discovery-script", script]
    done = taco_run(options, program(at))
    check(done, "b", [1])
    assert "a" not in ends(done)


def test_without_an_elastic_job_it_is_called_once(taco_run):
    done = taco_run(["-np", "2"], program("def at(state):\n    pass\n"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(f"{STEPS} []") == 2
