"""TopKState: options, checkpoints, and what `import taco.lightcc` costs."""

import subprocess
import sys
from itertools import pairwise

import pytest
from taco.lightcc import TopKState
from taco.lightcc.warmup import warmed_up

_STEPS = """
import io, pickle

def prepared(state, model=None):
    model = model or net()
    ddp = DistributedDataParallel(model, bucket_cap_mb=0.01)
    ddp.register_comm_hook(state, topk_hook)
    return model, ddp

def steps(ddp, first, last):
    for step in range(first, last):
        ddp.zero_grad()
        ddp(data(step)).square().sum().backward()
        with torch.no_grad():
            for param in ddp.parameters():
                param -= 0.05 * param.grad

options = dict(ratio=0.05, min_bytes=0, start_step=0, warmup_steps=0)
"""


def test_a_checkpoint_holds_exactly_what_was_held_back(ranks):
    ranks(
        2,
        _STEPS
        + """
state = TopKState(**options)
model, ddp = prepared(state)
steps(ddp, 0, 4)
before = held_back(state, model)
assert float(before.abs().sum()) > 0
file = io.BytesIO()
torch.save({"model": model.state_dict(), "topk": state.state_dict()}, file)
file.seek(0)
saved = torch.load(file, weights_only=True)
assert [each["steps"] for each in saved["topk"]["parameters"]] == [4] * 6

# In a new process the model, DDP and the state are new.
fresh = TopKState(**options)
fresh.load_state_dict(saved["topk"])
twin, new_ddp = prepared(fresh)
twin.load_state_dict(saved["model"])
again = fresh.state_dict()  # before it has been used
assert all(
    torch.equal(a["residual"], b["residual"])
    for a, b in zip(again["parameters"], saved["topk"]["parameters"], strict=True)
)
# In the first step buckets are those of the beginning: the order is another.
fresh.start_step = 100
fresh.min_bytes = 1 << 30
new_ddp(data(9)).square().sum().backward()
applied = flat([param.grad for param in twin.parameters()]) * size
plain = net()
plain.load_state_dict(saved["model"])
plain(data(9)).square().sum().backward()
due = summed(flat([param.grad for param in plain.parameters()]) + before)
assert torch.allclose(applied, due, rtol=1e-4, atol=1e-6), (applied - due).abs().max()
assert float(held_back(fresh, twin).abs().sum()) == 0
""",
    )


def test_loading_into_a_state_in_use_takes_its_place(ranks):
    ranks(
        2,
        _STEPS
        + """
state = TopKState(**options)
model, ddp = prepared(state)
steps(ddp, 0, 4)
kept, saved = held_back(state, model), state.state_dict()
steps(ddp, 4, 7)
assert not torch.equal(held_back(state, model), kept)
state.load_state_dict(saved)
assert torch.equal(held_back(state, model), kept)
steps(ddp, 4, 6)
""",
    )


def test_it_is_pickled_without_the_group(ranks):
    ranks(
        2,
        _STEPS
        + """
state = TopKState(dist.group.WORLD, fp16=True, **options)
model, ddp = prepared(state)
steps(ddp, 0, 4)
copy = pickle.loads(pickle.dumps(state))
assert copy.process_group is None
assert (copy.ratio, copy.fp16, copy.min_bytes, copy.start_step) == (0.05, True, 0, 0)
a, b = state.state_dict(), copy.state_dict()
for x, y in zip(a["parameters"], b["parameters"], strict=True):
    assert torch.equal(x["residual"], y["residual"])
model, ddp = prepared(copy)
steps(ddp, 4, 6)
""",
    )


def test_a_checkpoint_of_rank_0_does_not_count_twice(ranks):
    ranks(
        2,
        _STEPS
        + """
state = TopKState(**options)
model, ddp = prepared(state)
steps(ddp, 0, 4)
(saved,) = [state.state_dict() if rank == 0 else None]
box = [saved]
dist.broadcast_object_list(box, 0)
kept = held_back(state, model)
fresh = TopKState(**options)
fresh.load_state_dict(box[0])
twin, ddp = prepared(fresh, model)
fresh.start_step = 5  # it is step 4 on both
ddp.zero_grad()
ddp(data(4)).square().sum().backward()
applied = flat([param.grad for param in twin.parameters()]) * size
plain = net()
plain.load_state_dict(model.state_dict())
plain(data(4)).square().sum().backward()
own = flat([param.grad for param in plain.parameters()])
due = summed(own + kept if rank == 0 else own)
assert torch.allclose(applied, due, rtol=1e-4, atol=1e-6)
assert [each["steps"] for each in fresh.state_dict()["parameters"]] == [5] * 6
""",
    )


def test_in_a_world_of_another_size_it_is_scaled(ranks):
    """An average over 1 rank takes as much of a parameter as one over 3 does of three times it."""
    ranks(
        3,
        _STEPS
        + """
state = TopKState(**options)
model, ddp = prepared(state)
steps(ddp, 0, 4)
kept, saved = held_back(state, model), state.state_dict()
pair = dist.new_group([1, 2])
if rank:
    state.process_group = pair
    smaller = DistributedDataParallel(model, process_group=pair, bucket_cap_mb=0.01)
    smaller.register_comm_hook(state, topk_hook)
    state.start_step = 100
    plain = net()
    plain.load_state_dict(model.state_dict())
    smaller.zero_grad()
    smaller(data(4)).square().sum().backward()
    plain(data(4)).square().sum().backward()
    due = flat([param.grad for param in plain.parameters()]) + kept * 2 / 3
    dist.all_reduce(due, group=pair)
    applied = flat([param.grad for param in model.parameters()]) * 2
    assert torch.allclose(applied, due, rtol=1e-4, atol=1e-6)
""",
    )


def test_another_models_checkpoint_is_refused(ranks):
    ranks(
        2,
        _STEPS
        + """
state = TopKState(**options)
model, ddp = prepared(state)
steps(ddp, 0, 3)
saved = state.state_dict()
fresh = TopKState(**options)
fresh.load_state_dict(saved)
ddp = DistributedDataParallel(torch.nn.Linear(40, 7))
ddp.register_comm_hook(fresh, topk_hook)
try:
    ddp(data(0)).sum().backward()
except (RuntimeError, ValueError) as error:
    assert "another model" in str(error), error
else:
    raise AssertionError("no error")
""",
    )


@pytest.mark.parametrize("record", [{}, {"version": 9, "rank": 0, "size": 1, "parameters": []}, []])
def test_what_is_no_checkpoint_is_refused(record):
    with pytest.raises(ValueError, match="TopKState"):
        TopKState().load_state_dict(record)


@pytest.mark.parametrize(
    "options",
    [
        {"ratio": 0.0},
        {"ratio": 1.5},
        {"ratio": "0.01"},
        {"warmup_steps": -1},
        {"warmup_steps": None},
        {"start_step": -1},
        {"start_step": 0.5},
        {"min_bytes": float("nan")},
    ],
)
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        TopKState(**options)


def test_the_ratio_comes_down_by_the_same_factor():
    ratios = [warmed_up(0.01, step, 4) for step in range(6)]
    assert ratios[0] == 0.25
    assert ratios[4:] == [0.01, 0.01]
    assert all(a / b == pytest.approx(ratios[0] / ratios[1]) for a, b in pairwise(ratios[:5]))
    assert warmed_up(0.5, 0, 4) == 0.5


def test_importing_lightcc_imports_no_torch():
    code = """
import sys
import taco.lightcc
assert "torch" not in sys.modules
assert {"Compression", "TopKState", "topk_hook"} <= set(dir(taco.lightcc))
from taco.lightcc import Compression, TopKState, topk_hook
from taco.lightcc.torch import Compression as same
assert Compression is same and callable(topk_hook)
try:
    taco.lightcc.no_such
except AttributeError:
    pass
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code], check=True)
