"""Training in every mode: nothing is lost, all ranks agree, and what was asked for is what runs."""

import json

import pytest

from tests.lightcc.torch._training import TRAINING as _WORLD

# With a constant learning rate and no momentum, all that was ever applied, and what is held back,
# is the sum of all gradients; those depend on the parameters, so they are recorded.
CONSERVES = (
    _WORLD
    + """
lr = 0.05
optimizer = hvd.DistributedOptimizer(
    torch.optim.SGD(model.parameters(), lr=lr), model.named_parameters()OPTIONS
)
total = torch.zeros_like(flat(model), dtype=torch.float64)
twin = make()
start = flat(model)
for step in range(STEPS):
    twin.load_state_dict(model.state_dict())
    twin.zero_grad()
    loss_of(twin, data(step, rank)).backward()
    total += torch.nn.utils.parameters_to_vector([p.grad for p in twin.parameters()])
    optimizer.zero_grad()
    loss_of(model, data(step, rank)).backward()
    optimizer.step()
same_everywhere(model)
held = torch.zeros_like(total)
parts = optimizer.state_dict().get("lightcc", {"residuals": {}})["residuals"]
if parts:
    held += torch.cat([parts[name]["residual"].flatten() for name, _ in model.named_parameters()])
everything = hvd.allreduce(total, op=hvd.Sum)
waiting = hvd.allreduce(held, op=hvd.Sum)
applied = (start.double() - flat(model).double()) / lr * size
worst = (everything - waiting - applied).abs().max()
assert worst < 1e-3, worst
print("MODES", sorted(modes()), bool(parts))
"""
)


def _conserves(ranks, size, options="", steps=12, **environ):
    program = CONSERVES.replace("OPTIONS", options).replace("STEPS", str(steps))
    done = ranks(size, program, LIGHT_TOPK_THRESHOLD="64", LIGHT_TOPK_WARMUP="0", **environ)
    return done.stdout


@pytest.mark.parametrize(
    ("size", "environ", "expected"),
    [
        (2, {"LIGHT_TOPK_ALLREDUCE": "1"}, "flat+topk=0.01"),
        (3, {"LIGHT_TOPK_ALLREDUCE": "1", "LIGHT_TOPK_RATIO": "0.1"}, "flat+topk=0.1"),
        (2, {"LIGHT_TOPK_ALLREDUCE": "1", "LIGHT_TOPK_FP16": "1"}, "flat+topk=0.01+half"),
        (4, {"LIGHT_2D_ALLREDUCE": "1", "LIGHT_INTRA_SIZE": "2"}, "2d"),
        (
            5,
            {"LIGHT_2D_ALLREDUCE": "1", "LIGHT_INTRA_SIZE": "2", "LIGHT_TOPK_ALLREDUCE": "1"},
            "2d+topk=0.01",
        ),
        (2, {"LIGHT_2D_ALLREDUCE": "1"}, "flat"),  # one host: there are no two levels
        (2, {}, "flat"),
    ],
)
def test_nothing_is_lost(ranks, size, environ, expected) -> None:
    out = _conserves(ranks, size, **environ)
    assert f"'{expected}'" in out, out
    assert ("topk" in expected) == ("True" in out)


# As on a GPU: by the groups' collectives alone.
_AS_ON_A_DEVICE = """
from taco.lightcc.adaptive import execution
execution.by_messages_of = lambda tensor: False
"""


@pytest.mark.parametrize(
    ("size", "environ", "expected"),
    [
        (2, {"LIGHT_TOPK_ALLREDUCE": "1", "LIGHT_TOPK_FP16": "1"}, "flat+topk=0.01+half"),
        (3, {"LIGHT_2D_ALLREDUCE": "1", "LIGHT_INTRA_SIZE": "2"}, "2d"),
        (
            5,
            {"LIGHT_2D_ALLREDUCE": "1", "LIGHT_INTRA_SIZE": "2", "LIGHT_TOPK_ALLREDUCE": "1"},
            "2d+topk=0.01",
        ),
        (9, {"LIGHT_TOPK_ALLREDUCE": "1"}, "flat+topk=0.01+balanced"),
    ],
)
def test_nothing_is_lost_on_a_device(ranks, size, environ, expected) -> None:
    program = _AS_ON_A_DEVICE + CONSERVES.replace("OPTIONS", "").replace("STEPS", "6")
    out = ranks(size, program, LIGHT_TOPK_THRESHOLD="64", LIGHT_TOPK_WARMUP="0", **environ).stdout
    assert f"'{expected}'" in out, out


def test_auto_measures_and_chooses_on_a_device(ranks) -> None:
    out = ranks(
        4,
        _AS_ON_A_DEVICE
        + _WORLD
        + """
from taco.lightcc.adaptive import calibration
measured = []
measure = calibration.measure_on_device
calibration.measure_on_device = lambda *args: measured.append(args) or measure(*args)
train(60)
assert [group.size() for group in measured[0][:2]] == [2, 2]
tried = modes()
print("TRIED", len(tried), sorted(tried))
""",
        LIGHT_MODE="auto",
        LIGHT_TOPK_THRESHOLD="64",
        LIGHT_INTRA_SIZE="2",
    ).stdout
    assert "TRIED" in out, out


def test_compression_topk_asks_for_its_own_ratio(ranks) -> None:
    out = _conserves(ranks, 2, ", compression=hvd.Compression.topk(0.05, warmup_steps=6)", 16)
    assert "flat+topk=0.05" in out


def test_two_levels_are_flat_up_to_rounding(ranks) -> None:
    program = (
        _WORLD
        + """
optimizer = hvd.DistributedOptimizer(
    torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), model.named_parameters()
)
for step in range(8):
    optimizer.zero_grad()
    loss_of(model, data(step, rank)).backward()
    optimizer.step()
same_everywhere(model)
if rank == 0:
    print("SUM", repr(flat(model).double().sum().item()))
"""
    )
    flat = ranks(4, program).stdout
    two = ranks(4, program, LIGHT_2D_ALLREDUCE="1", LIGHT_INTRA_SIZE="2").stdout
    sums = [float(each.split("SUM ")[1].split()[0]) for each in (flat, two)]
    assert sums[0] == pytest.approx(sums[1], abs=1e-4)


def test_residuals_are_state(ranks) -> None:
    ranks(
        2,
        _WORLD
        + """
def build():
    model = make()
    return model, hvd.DistributedOptimizer(
        torch.optim.SGD(model.parameters(), lr=0.1), model.named_parameters()
    )

def train(model, optimizer, steps):
    for step in steps:
        optimizer.zero_grad()
        loss_of(model, data(step, rank)).backward()
        optimizer.step()

model, optimizer = build()
train(model, optimizer, range(6))
saved = optimizer.state_dict()
held = {name: each["residual"].clone() for name, each in saved["lightcc"]["residuals"].items()}
assert set(held) == {name for name, _ in model.named_parameters()}
assert any(float(each.abs().sum()) > 0 for each in held.values())

again, second = build()
again.load_state_dict(model.state_dict())
second.load_state_dict(saved)
back = second.state_dict()["lightcc"]["residuals"]
assert all(torch.equal(back[name]["residual"], held[name]) for name in held)

# Rank 0's alone, loaded everywhere: it counts once.
theirs = hvd.broadcast_object(saved, root_rank=0)
third_model, third = build()
third.load_state_dict(theirs)
assert ("lightcc" in third.state_dict()) == (rank == 0)

# For other worlds: the sum stays.
states = hvd.allgather_object(saved)
for world in (1, 2, 3, 5):
    dealt = hvd.reshard(states, world)
    assert len(dealt) == world
    for name in held:
        before = sum(s["lightcc"]["residuals"][name]["residual"].double() for s in states)
        after = sum(
            s["lightcc"]["residuals"][name]["residual"].double()
            for s in dealt
            if name in s["lightcc"]["residuals"]
        )
        assert torch.allclose(before, after)
try:
    hvd.reshard(states[:1], 2)
except ValueError as error:
    assert "every rank" in str(error)
else:
    raise AssertionError("accepted")

# Training goes on with it.
train(again, second, range(6, 12))
same_everywhere(again)
""",
        LIGHT_TOPK_ALLREDUCE="1",
        LIGHT_TOPK_THRESHOLD="64",
        LIGHT_TOPK_RATIO="0.05",
        LIGHT_TOPK_WARMUP="0",
    )


def test_a_warm_up_goes_on_where_a_checkpoint_ends(ranks, tmp_path) -> None:
    program = (
        _WORLD
        + """
optimizer = hvd.DistributedOptimizer(
    torch.optim.SGD(model.parameters(), lr=0.05), model.named_parameters()
)
path = FOLDER + f"/{rank}.pt"
if GOES_ON:
    optimizer.load_state_dict(torch.load(path, weights_only=True))
for step in range(8):
    optimizer.zero_grad()
    loss_of(model, data(step, rank)).backward()
    optimizer.step()
ratios = {float(mode.partition("topk=")[2]) for mode in modes() if "topk" in mode}
assert ratios and all((ratio == 0.05) == GOES_ON for ratio in ratios), ratios
torch.save(optimizer.state_dict(), path)
# In a new job of the same processes, as after an elastic reset.
hvd.shutdown()
hvd.init()
for step in range(8, 12):
    optimizer.zero_grad()
    loss_of(model, data(step, rank)).backward()
    optimizer.step()
ratios = {float(mode.partition("topk=")[2]) for mode in modes() if "topk" in mode}
assert ratios and all(0.05 <= ratio < 0.1 for ratio in ratios), ratios
"""
    )
    variables = {
        "LIGHT_TOPK_ALLREDUCE": "1",
        "LIGHT_TOPK_THRESHOLD": "64",
        "LIGHT_TOPK_RATIO": "0.05",
        "LIGHT_TOPK_WARMUP": "12",
    }
    for goes_on in ("False", "True"):
        text = program.replace("FOLDER", repr(str(tmp_path))).replace("GOES_ON", goes_on)
        ranks(2, text, **variables)


def test_a_step_that_overflows_spoils_nothing(ranks) -> None:
    ranks(
        2,
        _WORLD
        + """
optimizer = hvd.DistributedOptimizer(
    torch.optim.SGD(model.parameters(), lr=0.05), model.named_parameters()
)
for step in range(10):
    optimizer.zero_grad()
    scale = float("inf") if step == 6 and rank == 1 else 1.0
    (loss_of(model, data(step, rank)) * scale).backward()
    grads = torch.cat([p.grad.flatten() for p in model.parameters()])
    bad = not bool(torch.isfinite(grads).all())
    assert hvd.allgather_object(bad) == [step == 6] * size, step
    if bad:  # as GradScaler does
        continue
    optimizer.step()
same_everywhere(model)
assert bool(torch.isfinite(flat(model)).all())
""",
        LIGHT_TOPK_ALLREDUCE="1",
        LIGHT_TOPK_THRESHOLD="64",
    )


def test_auto_measures_chooses_and_explains(ranks, tmp_path) -> None:
    report = tmp_path / "report.json"
    ranks(
        2,
        _WORLD
        + """
model = make(4096)
hvd.broadcast_parameters(model.state_dict(), root_rank=0)
optimizer = hvd.DistributedOptimizer(
    torch.optim.SGD(model.parameters(), lr=0.01), model.named_parameters()
)
for step in range(40):
    optimizer.zero_grad()
    loss_of(model, data(step, rank)).backward()
    optimizer.step()
    hvd.observe_loss(1.0)
same_everywhere(model)
found = hvd.explain()
assert found.rank == rank and found.buckets
for each in found.buckets:
    assert each.measured > 0 and sum(each.sent.values()) > 0
    if rank == 0:
        assert each.predicted > 0 and each.dense > 0 and each.why
if rank == 0:
    assert found.links["0/cpu"]["across"]["per_byte"] > 0
    assert "why" in str(found)
""",
        LIGHT_MODE="auto",
        LIGHT_TOPK_THRESHOLD="64",
        TACO_REPORT=str(report),
    )
    found = json.loads(report.read_text())
    assert found["rank"] == 0
    assert {"name", "mode", "predicted", "measured", "dense", "sent", "why"} <= set(
        found["buckets"][0]
    )


def test_ranks_that_have_joined_are_not_waited_for_by_the_first_bucket(ranks) -> None:
    ranks(
        2,
        _WORLD
        + """
model = make(4096)
optimizer = hvd.DistributedOptimizer(
    torch.optim.SGD(model.parameters(), lr=0.01), model.named_parameters(), groups=1
)
if rank == 0:
    for step in range(1):
        optimizer.zero_grad()
        loss_of(model, data(step, rank)).backward()
        optimizer.step()
hvd.join()
from taco.lightcc.patterns import machine
assert not len(machine._joined), "dense and flat needs nobody's memory"
""",
    )


def test_a_report_that_cannot_be_written_is_refused_at_the_start(ranks) -> None:
    done = ranks(1, "hvd.init()", expect=1, TACO_REPORT="/nowhere/at/all.json")
    assert "TACO_REPORT='/nowhere/at/all.json'" in done.stderr


def test_a_report_that_cannot_be_written_in_the_end_harms_nothing(ranks, tmp_path) -> None:
    folder = tmp_path / "reports"
    folder.mkdir()
    program = f"""
    import os
    os.rmdir({str(folder)!r})
    hvd.shutdown()
    """
    done = ranks(1, program, TACO_REPORT=str(folder / "all.json"))
    assert "TACO_REPORT=" in done.stderr and "cannot be written" in done.stderr


def test_buckets_are_cut_anew_when_rank_0_wants_it(ranks) -> None:
    ranks(
        2,
        _WORLD
        + """
from taco.lightcc.torch import _state

optimizer = hvd.DistributedOptimizer(
    torch.optim.SGD(model.parameters(), lr=0.05), model.named_parameters()
)
if rank == 0:
    wanted = iter([False] * 6 + [True] + [False] * 1000)
    _state.adaptive().policy.wants_layout = lambda: next(wanted)
layouts = []
optimizer._reducer._lay_out = (
    lambda lay_out: lambda: (layouts.append(step), lay_out())
)(optimizer._reducer._lay_out)
for step in range(20):
    optimizer.zero_grad()
    loss_of(model, data(step, rank)).backward()
    optimizer.step()
same_everywhere(model)
assert len(layouts) == 2 and hvd.allgather_object(layouts)[0] == layouts, layouts
""",
        LIGHT_TOPK_ALLREDUCE="1",
        LIGHT_TOPK_THRESHOLD="64",
        LIGHT_TOPK_RATIO="0.05",
        LIGHT_TOPK_WARMUP="0",
    )


def test_auto_measures_with_buckets_of_the_users_own(ranks) -> None:
    ranks(
        2,
        _WORLD
        + """
optimizer = hvd.DistributedOptimizer(
    torch.optim.SGD(model.parameters(), lr=0.05), model.named_parameters(), groups=2
)
for step in range(12):
    optimizer.zero_grad()
    loss_of(model, data(step, rank)).backward()
    optimizer.step()
same_everywhere(model)
found = hvd.explain()
assert len(found.buckets) == 2
assert rank or all(each.dense for each in found.buckets), found
""",
        LIGHT_MODE="auto",
    )
