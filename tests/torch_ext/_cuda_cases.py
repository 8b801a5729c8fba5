"""What the kernels of torch_ext/cuda have to do, on the CPU as on a GPU: the CPU's bits.

Who imports these tests has a fixture `others`: a function from a number to the ops under test. The
emulation takes the number as an order of blocks and threads; a GPU ignores it, and is asked again.
"""

from types import SimpleNamespace

import pytest
import torch

from tests.torch_ext._ops import FLOATS, fields, fresh_state, gradient, ops, same_bits

ORDERS = (0, 1, 2)

KINDS = (
    "normal",
    "heavy",
    "zeros",
    "negative zeros",
    "ties",
    "few values",
    "sparse",
    "clustered",
    "denormal",
    "huge",
    "some nan",
    "all infinite",
    "one nan",
)


def make(kind: str, n: int, generator: torch.Generator) -> torch.Tensor:
    """A gradient of n elements that is hard in one way or another, on the CPU."""
    x = torch.randn(n, generator=generator, device="cpu")
    some = torch.rand(n, generator=generator, device="cpu")
    place = torch.arange(n, device="cpu")
    return {
        "normal": lambda: x,
        "heavy": lambda: x / (some + 1e-3),
        "zeros": lambda: 0.0 * x.abs(),
        "negative zeros": lambda: -0.0 * x.abs(),
        "ties": lambda: x.sign(),
        "few values": lambda: x.round(),
        "sparse": lambda: torch.where(some < 1e-3, x, 0.0),
        "clustered": lambda: torch.where(place < n // 50, 100 * x, 1e-3 * x),
        "denormal": lambda: x * 1e-42,
        "huge": lambda: x * 1e9,
        "some nan": lambda: torch.where(some < 2e-3, torch.nan, x),
        "all infinite": lambda: x.sign() * torch.inf,
        "one nan": lambda: torch.where(place == n // 2, torch.nan, x),
    }[kind]()


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal bits, on whatever devices; but a NaN is a NaN."""
    a, b = a.cpu().reshape(-1), b.cpu().reshape(-1)
    if a.is_floating_point():
        a, b = torch.where(a.isnan(), torch.nan, a), torch.where(b.isnan(), torch.nan, b)
    return same_bits(a, b)


def compare_compress(
    others: SimpleNamespace,
    kinds: tuple[str, ...],
    n: int,
    k: int,
    dtype: torch.dtype = torch.float32,
    momentum: float | None = None,
    **kwargs: object,
) -> list[dict[str, float]]:
    """Steps with these gradients, one after the other, by the CPU's op and another.

    All results are equal, but for the last bits of the state's two sums of squares.

    Returns:
        The state after each step, by field.
    """
    generator = torch.Generator().manual_seed(0)
    ranks = []
    for op, device in ((ops().topk_compress, "cpu"), (others.topk_compress, others.device)):
        carried = {"residual": torch.zeros(n), "state": fresh_state()}
        if momentum is not None:
            carried["velocity"] = torch.zeros(n)
        ranks.append((op, {name: tensor.to(device) for name, tensor in carried.items()}))
    said = []
    for kind in kinds:
        grad = make(kind, n, generator).to(dtype)
        made = [
            op(
                grad.to(mine["residual"].device),
                k=k,
                momentum=momentum or 0.0,
                **mine,
                **kwargs,
            )
            for op, mine in ranks
        ]
        where = (kind, n, k, dtype, momentum, kwargs)
        for what, ours, theirs in zip(("indices", "values", "count"), *made, strict=True):
            assert same(ours, theirs), (what, *where)
        (_, ours), (_, theirs) = ranks
        for what in ours.keys() - {"state"}:
            assert same(ours[what], theirs[what]), (what, *where)
        states = ours["state"], theirs["state"].cpu()
        assert torch.equal(*(state[:6] for state in states)), (states, *where)
        close = torch.allclose(*(state[6:] for state in states), rtol=1e-5, equal_nan=True)
        assert close, (states, *where)
        said.append(fields(ours["state"]))
    return said


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_steps_with_gradients_of_all_kinds(others, kind, exact):
    for n, order in ((1, 0), (17, 1), (4096, 2), (9001, 0)):
        compare_compress(others(order), (kind,) * 3, n, max(1, n // 100), exact=exact)


@pytest.mark.parametrize("exact", [False, True])
def test_any_k_from_nothing_to_all(others, exact):
    for n in (0, 1, 2, 17, 5000):
        for k in {0, 1, 2, n // 2, n - 1, n} & set(range(n + 1)):
            for kind in ("normal", "few values", "one nan"):
                compare_compress(others(0), (kind,) * 2, n, k, exact=exact)


@pytest.mark.parametrize("momentum", [None, 0.9])
@pytest.mark.parametrize("values_dtype", FLOATS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_every_pair_of_types_with_scale_and_momentum(others, dtype, values_dtype, momentum):
    kinds = ("normal", "huge", "some nan", "normal")
    compare_compress(
        others(0), kinds, 9001, 90, dtype, momentum, values_dtype=values_dtype, scale=0.37
    )


# By name: kinds of gradients, n, k, and what the CPU's op says of its passes over them. One pass
# served; there was a second; nothing but the exact k-th largest would do.
SEQUENCES = {
    "steady": (("normal",) * 4, 150_001, 1500, {1}),
    "growing": (("normal", "huge", "normal", "sparse", "zeros"), 150_001, 1500, {1, 2}),
    "equal": (("denormal", "ties", "normal", "ties"), 150_001, 1500, {1, 2, 6, 7}),
    "more than there is room for": (("denormal", "normal", "ties", "normal"), 140_000, 100, {6, 2}),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("name", SEQUENCES)
def test_whatever_becomes_of_a_threshold(others, name, exact, order):
    """In many blocks and in any order; with 16-bit values, which leave a rest behind, too."""
    kinds, n, k, passes = SEQUENCES[name]
    for values_dtype in (torch.float32, torch.float16):
        said = compare_compress(others(order), kinds, n, k, exact=exact, values_dtype=values_dtype)
        assert passes <= {state["passes"] for state in said}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_lists_are_summed_as_on_the_cpu(others, dtype, order):
    """More lists than one launch takes: padded ones, ones in any order, with repetitions, empty."""
    n = 20_000
    generator = torch.Generator().manual_seed(1)

    def anywhere(end: int) -> torch.Tensor:
        return torch.randint(0, end, (3000,), generator=generator, dtype=torch.int32, device="cpu")

    lists = []
    for number in range(40):
        grad, residual = gradient(n, number, dtype).cpu(), torch.zeros(n, device="cpu")
        k = 50 + 300 * (number % 20)
        lists.append(ops().topk_compress(grad, residual, fresh_state().cpu(), k)[:2])
    values = torch.randn(3000, generator=generator, device="cpu").to(dtype)
    lists[3] = (anywhere(n), values)
    lists[5] = (anywhere(5).sort().values, values)
    lists[7] = (lists[7][0][:0], lists[7][1][:0])
    results = []
    for each, device in ((ops(), "cpu"), (others(order), others(order).device)):
        out = 0.0 * gradient(n, 99).to(device)  # zeros of both signs
        each.topk_accumulate_(
            out, [i.to(device) for i, _ in lists], [v.to(device) for _, v in lists], scale=0.3
        )
        results.append(out)
    assert same(*results)


def test_more_tensors_than_one_launch_takes(others):
    tensors = [gradient(n % 7 * 1000, n, FLOATS[n % 3]).cpu() for n in range(300)]
    results = []
    for each, device in ((ops(), "cpu"), (others(1), others(1).device)):
        mine = [t.to(device) for t in tensors]
        total = sum(t.numel() for t in tensors)
        buffer = torch.zeros(total, dtype=torch.bfloat16, device=device)
        each.fuse(mine, buffer, scale=0.7)
        back = [torch.zeros_like(t) for t in mine]
        each.unfuse(buffer, back, scale=0.3)
        results.append((buffer, *back))
    assert all(same(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize(
    "dtype", [torch.complex128, torch.complex64, torch.float64, torch.bool, torch.int16]
)
def test_elements_of_any_size_are_copied(others, dtype):
    tensors = [gradient(n).to(others(0).device, dtype) for n in (3, 5000)]
    buffer = torch.zeros(5003, dtype=dtype, device=others(0).device)
    others(0).fuse(tensors, buffer)
    assert torch.equal(buffer, torch.cat(tensors))


def test_float64_is_scaled(others):
    tensor = gradient(5000).to(others(0).device, torch.float64)
    buffer = torch.zeros_like(tensor)
    others(0).fuse([tensor], buffer, scale=0.5)
    assert torch.equal(buffer, tensor * 0.5)
