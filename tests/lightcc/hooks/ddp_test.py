"""TopK in DDP: nothing is lost, ranks agree to the bit, and DDP's own ways go on working."""

import pytest

# A DDP model beside one that is not: the latter's gradients are what every rank should have given.
_TRAIN = """
def train(model, ddp, state, steps, unused=lambda step: False, passes=1, lr=0.05):
    '''Returns what was applied and what was due, both summed over ranks and steps.'''
    twin = net(dtype=next(model.parameters()).dtype)
    applied = due = 0.0
    for step in range(steps):
        twin.load_state_dict(model.state_dict())
        twin.zero_grad(), ddp.zero_grad()
        for part in range(passes):
            batch = data(step * passes + part, dtype=next(model.parameters()).dtype)
            middle = not unused(step)
            twin(batch, middle).square().sum().backward()
            loss = lambda: ddp(batch, middle).square().sum()
            if part < passes - 1:
                with ddp.no_sync():
                    loss().backward()
            else:
                loss().backward()
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
        applied = applied + flat(grads) * size
        due = due + summed(flat([
            torch.zeros_like(p) if p.grad is None else p.grad for p in twin.parameters()
        ]))
        with torch.no_grad():
            for param, grad in zip(model.parameters(), grads):
                param -= lr * grad
        ours = flat(model.parameters())
        for other in everywhere(ours):
            assert torch.equal(other, ours), "the ranks' parameters differ"
    return applied, due


def check(state, model, applied, due, tolerance=1e-5):
    left = held_back(state, model)
    assert float(summed(left.abs()).sum()) > 0, "nothing was held back"
    missing = applied + summed(left) - due
    assert float(missing.abs().max()) <= tolerance * float(due.abs().max()), missing.abs().max()
"""


# As on a GPU: by the groups' collectives, in backward's own thread.
_AS_ON_A_DEVICE = """
from taco.lightcc.hooks import state as hook_state
hook_state._in_thread = lambda buffer: False
"""


@pytest.mark.parametrize("way", ["", _AS_ON_A_DEVICE])
@pytest.mark.parametrize("size", [2, 3])
def test_what_was_applied_and_what_is_held_back_are_all_there_was(ranks, size, way):
    ranks(
        size,
        way
        + _TRAIN
        + """
for options in (
    dict(ratio=0.05, start_step=0, warmup_steps=0),  # buckets are cut anew meanwhile
    dict(ratio=0.01, warmup_steps=0),
    dict(ratio=0.05, start_step=1, fp16=True),
    dict(ratio=0.02, warmup_steps=4),
):
    print(options)
    model = net()
    ddp = DistributedDataParallel(model, bucket_cap_mb=0.01)
    state = TopKState(min_bytes=0, **options)
    ddp.register_comm_hook(state, topk_hook)
    check(state, model, *train(model, ddp, state, 8))
""",
    )


@pytest.mark.parametrize("way", ["", _AS_ON_A_DEVICE])
def test_ddps_own_options_lose_nothing(ranks, way):
    ranks(
        2,
        way
        + _TRAIN
        + """
for ddp_options, train_options in (
    (dict(find_unused_parameters=True), dict(unused=lambda step: step in (3, 4, 6))),
    (dict(find_unused_parameters=True), dict(unused=lambda step: (step + rank) % 2 == 0)),
    (dict(static_graph=True), {}),
    (dict(gradient_as_bucket_view=True), {}),
    (dict(), dict(passes=3)),
    (dict(gradient_as_bucket_view=True, find_unused_parameters=True), dict(passes=2)),
):
    print(ddp_options, train_options)
    model = net()
    ddp = DistributedDataParallel(model, bucket_cap_mb=0.01, **ddp_options)
    state = TopKState(ratio=0.05, min_bytes=0, start_step=0)
    ddp.register_comm_hook(state, topk_hook)
    check(state, model, *train(model, ddp, state, 8, **train_options))
""",
    )


def test_ratio_1_is_dense_ddp_up_to_rounding(ranks):
    ranks(
        3,
        _TRAIN
        + """
results = []
for hooked in (False, True):
    model = net()
    ddp = DistributedDataParallel(model)
    state = TopKState(ratio=1.0, min_bytes=0, start_step=0)
    if hooked:
        ddp.register_comm_hook(state, topk_hook)
    train(model, ddp, state, 4)
    results.append(flat(model.parameters()))
assert torch.allclose(*results, rtol=1e-5, atol=1e-7), (results[0] - results[1]).abs().max()
""",
    )


@pytest.mark.parametrize("way", ["", _AS_ON_A_DEVICE])
def test_16_bit_gradients_lose_only_the_rounding_of_the_result(ranks, way):
    ranks(
        2,
        way
        + _TRAIN
        + """
for dtype in (torch.bfloat16, torch.float16):
    model = net(dtype=dtype)
    ddp = DistributedDataParallel(model)
    state = TopKState(ratio=0.05, min_bytes=0, start_step=0)
    ddp.register_comm_hook(state, topk_hook)
    check(state, model, *train(model, ddp, state, 6, lr=0.001), tolerance=0.02)
""",
    )


def test_small_buckets_first_steps_and_float64_travel_dense(ranks):
    ranks(
        2,
        _TRAIN
        + """
for options, dtype in (
    (dict(), torch.float32),
    (dict(min_bytes=0, start_step=5), torch.float32),
    (dict(min_bytes=0, start_step=0), torch.float64),
):
    model = net(dtype=dtype)
    ddp = DistributedDataParallel(model)
    state = TopKState(**options)
    ddp.register_comm_hook(state, topk_hook)
    applied, due = train(model, ddp, state, 4)
    assert float((applied - due).abs().max()) <= 1e-5 * float(due.abs().max())
    assert float(held_back(state, model).abs().sum()) == 0
""",
    )


@pytest.mark.parametrize("way", ["", _AS_ON_A_DEVICE])
def test_two_levels_lose_nothing(ranks, way):
    ranks(
        4,
        way
        + _TRAIN
        + """
for places, dtype in (
    ("aabb", torch.float32), ("aaab", torch.float32), ("abcd", torch.float32),
    ("aaaa", torch.float32), ("abab", torch.bfloat16),
):
    print(places, dtype)
    os.environ["HOROVOD_HOSTNAME"] = places[rank]
    model = net(dtype=dtype)
    ddp = DistributedDataParallel(model, bucket_cap_mb=0.01, find_unused_parameters=True)
    state = TopKState(ratio=0.05, min_bytes=0, start_step=1, two_level=True)
    ddp.register_comm_hook(state, topk_hook)
    done = train(model, ddp, state, 8, unused=lambda step: step == 4, lr=0.001)
    check(state, model, *done, tolerance=1e-5 if dtype == torch.float32 else 0.02)
    assert len(state._groups) == len(set(places))
""",
    )


@pytest.mark.parametrize("way", ["", _AS_ON_A_DEVICE])
def test_two_levels_after_buckets_were_cut_anew_and_after_one_level(ranks, way):
    ranks(
        4,
        way
        + _TRAIN
        + """
os.environ["HOROVOD_HOSTNAME"] = "aabb"[rank]
model = net()
ddp = DistributedDataParallel(model, bucket_cap_mb=0.01)
state = TopKState(ratio=0.05, min_bytes=0, start_step=0, two_level=True)
ddp.register_comm_hook(state, topk_hook)
first = train(model, ddp, state, 3)
check(state, model, *first)
state.two_level = False
second = train(model, ddp, state, 3)
state.two_level = True
third = train(model, ddp, state, 3)
check(state, model, sum(part[0] for part in (first, second, third)),
      sum(part[1] for part in (first, second, third)))
# Each rank holds a part of its own: what lay elsewhere has been sent on.
shards = [other != 0 for other in everywhere(held_back(state, model))]
assert not bool((shards[0] & shards[1]).any())
""",
    )


def test_a_group_or_none_is_a_state_and_models_may_share_it(ranks):
    ranks(
        3,
        _TRAIN
        + """
pair = dist.new_group([0, 2])
if rank != 1:
    models = [torch.nn.Linear(1000, 600) for _ in range(2)]  # 2.4 MB: above min_bytes
    both = [DistributedDataParallel(model, process_group=pair) for model in models]
    for ddp in both:
        ddp.register_comm_hook(pair, topk_hook)
    for step in range(5):
        for ddp in both:
            ddp.zero_grad()
        sum(ddp(torch.randn(4, 1000)).square().sum() for ddp in both).backward()
        sent = [int((model.weight.grad != 0).sum()) for model in models]
        if step < 2:
            assert min(sent) > 500_000, sent
        else:  # a quarter of each rank's, as the warm-up begins
            assert 140_000 < min(sent) and max(sent) < 350_000, sent
        for model in models:
            found = [torch.empty_like(model.weight.grad) for _ in range(2)]
            dist.all_gather(found, model.weight.grad, group=pair)
            assert torch.equal(*found)
lonely = DistributedDataParallel(torch.nn.Linear(1000, 600))
lonely.register_comm_hook(None, topk_hook)
for step in range(3):
    lonely.zero_grad()
    lonely(torch.randn(4, 1000)).square().sum().backward()
assert int((lonely.module.weight.grad != 0).sum()) < 500_000
""",
    )


def test_uneven_inputs_with_ddps_join(ranks):
    ranks(
        2,
        """
        model = net()
        ddp = DistributedDataParallel(model)
        ddp.register_comm_hook(TopKState(ratio=0.05, min_bytes=0, start_step=1), topk_hook)
        optimizer = torch.optim.SGD(ddp.parameters(), lr=0.05)
        with ddp.join():
            for step in range(4 + 3 * rank):
                optimizer.zero_grad()
                ddp(data(step)).square().sum().backward()
                optimizer.step()
        for other in everywhere(flat(model.parameters())):
            assert torch.isfinite(other).all()
        """,
    )


def test_the_exchange_is_under_way_while_backward_goes_on(ranks):
    """The first bucket's exchange ends before the last layer's backward begins: it waits for it."""
    ranks(
        2,
        """
        import threading
        from taco.lightcc.hooks import exchange
        done, original = threading.Event(), exchange.average
        def told(*args):
            result = original(*args)
            done.set()
            return result
        exchange.average = told

        class Late(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x.clone()
            @staticmethod
            def backward(ctx, grad):
                assert step == 0 or done.wait(60), "no bucket was exchanged during backward"
                return grad

        class Chain(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.below, self.above = torch.nn.Linear(40, 40), torch.nn.Linear(40, 40)
            def forward(self, x):
                return self.above(Late.apply(self.below(x)))

        ddp = DistributedDataParallel(Chain(), bucket_cap_mb=0.001)
        ddp.register_comm_hook(TopKState(min_bytes=0, start_step=1), topk_hook)
        for step in range(3):
            done.clear()
            ddp(data(step)).sum().backward()
        """,
    )


def test_a_rank_that_dies_is_an_error_on_the_others(ranks):
    ranks(
        3,
        """
        import signal
        ddp = DistributedDataParallel(net())
        ddp.register_comm_hook(TopKState(min_bytes=0, start_step=0), topk_hook)
        try:
            for step in range(10**6):
                if step == 3 and rank == 1:
                    os.kill(os.getpid(), signal.SIGKILL)
                ddp(data(step)).sum().backward()
        except RuntimeError as error:
            print("SAW", error)
            os._exit(7)
        """,
        expect=[7, -9, 7],
        TEST_TIMEOUT="20",
    )


def test_what_fails_in_the_thread_comes_out_of_backward_with_its_words(ranks):
    ranks(
        2,
        """
        from taco.lightcc.hooks import exchange
        ddp = DistributedDataParallel(net())
        state = TopKState(min_bytes=0, start_step=0)
        ddp.register_comm_hook(state, topk_hook)
        original = exchange.average
        def fails(*args):
            raise ValueError("out of cheese")
        exchange.average = fails
        try:
            ddp(data(0)).sum().backward()
        except RuntimeError as error:
            assert "out of cheese" in str(error), error
        else:
            raise AssertionError("no error")
        exchange.average = original
        ddp = DistributedDataParallel(ddp.module)  # the process and the group go on
        ddp.register_comm_hook(state, topk_hook)
        ddp(data(0)).sum().backward()
        """,
    )


def test_the_thread_ends_with_the_model(ranks):
    ranks(
        2,
        """
        import gc, threading
        def named():
            return [each for each in threading.enumerate() if each.name == "taco-topk-hook"]
        ddp = DistributedDataParallel(net())
        ddp.register_comm_hook(TopKState(min_bytes=0, start_step=0), topk_hook)
        for step in range(3):
            ddp(data(step)).sum().backward()
        (thread,) = named()
        del ddp
        gc.collect()
        thread.join(30)
        assert not named()
        """,
    )


def test_gradients_on_a_gpu_want_nccl(ranks):
    ranks(
        1,
        """
        from taco.lightcc.hooks.device import _check_backend
        try:
            _check_backend(torch.device("cuda", 1), dist.group.WORLD)
        except ValueError as error:
            assert "cuda:1" in str(error) and "gloo" in str(error) and "nccl" in str(error), error
        else:
            raise AssertionError("Gloo was taken")
        """,
    )


def test_what_is_no_state_is_refused(ranks):
    ranks(
        1,
        """
        ddp = DistributedDataParallel(net())
        ddp.register_comm_hook("state", topk_hook)
        try:
            ddp(data(0)).sum().backward()
        except Exception as error:
            assert "TopKState, a process group or None" in str(error), error
        else:
            raise AssertionError("no error")
        """,
    )
