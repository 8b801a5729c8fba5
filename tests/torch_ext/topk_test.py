"""topk_compress, topk_decompress and topk_accumulate_ against torch's own topk."""

import pytest
import torch

from tests.torch_ext._ops import FLOATS, fields, fresh_state, gradient, ops, same_bits

N = 100_000
K = N // 100


def compress(grad, residual=None, state=None, k=K, **kwargs):
    residual = torch.zeros(grad.numel()) if residual is None else residual
    state = fresh_state() if state is None else state
    indices, values, count = ops().topk_compress(grad, residual, state, k, **kwargs)
    return indices[: int(count)], values[: int(count)], residual, state


def largest(v, k):
    """Indices of the k largest magnitudes, the lower index first among equals; ascending."""
    return v.abs().sort(descending=True, stable=True).indices[:k].sort().values


@pytest.mark.parametrize("n", [1, 2, 100, 4097, N])
def test_exact_is_torchs_topk(n):
    k = max(1, n // 100)
    residual, state = torch.zeros(n), fresh_state()
    for step in range(5):
        grad = gradient(n, step)
        v = grad + residual
        indices, values, _, _ = compress(grad, residual, state, k, exact=True)
        wanted = largest(v, k)
        assert torch.equal(indices.long(), wanted)
        assert torch.equal(values, v[wanted])
        rest = v.clone()
        rest[wanted] = 0
        assert torch.equal(residual, rest)


@pytest.mark.parametrize("dtype", FLOATS)
def test_approximate_sends_the_largest_within_the_band(dtype):
    residual, state = torch.zeros(N), fresh_state()
    for step in range(10):
        grad = gradient(N, step, dtype)
        v = grad.float() + residual
        indices, values, _, _ = compress(grad, residual, state)
        count = len(indices)
        assert K - K // 4 <= count <= K + K // 3
        assert torch.equal(indices.long(), largest(v, count))
        assert torch.equal(values, v[indices.long()].to(dtype))
    said = fields(state)
    assert (said["steps"], said["sent"]) == (10, count)
    assert said["residual_sq"] == pytest.approx(residual.double().square().sum().item(), rel=1e-5)


@pytest.mark.parametrize("values_dtype", FLOATS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_what_is_sent_and_what_stays_is_what_came(dtype, values_dtype):
    """Over 100 steps; with multiples of 1/64 every sum is exact in float32."""
    n, k = 20_000, 100
    residual, state = torch.zeros(n), fresh_state()
    came, sent = torch.zeros(n, dtype=torch.float64), torch.zeros(n, dtype=torch.float64)
    for step in range(100):
        generator = torch.Generator().manual_seed(step)
        whole = torch.randint(-64, 65, (n,), generator=generator, device="cpu")
        grad = (whole / 64).to(residual.device, dtype)
        came += grad.double()
        indices, values, _, _ = compress(grad, residual, state, k, values_dtype=values_dtype)
        assert values.dtype == values_dtype
        sent += ops().topk_decompress(indices, values, n).double()
    assert torch.equal(sent + residual.double(), came)


@pytest.mark.parametrize("exact", [False, True])
def test_the_number_of_threads_changes_nothing(exact):
    def run(threads):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            residual, state = torch.zeros(N), fresh_state()
            made = [
                compress(gradient(N, step), residual, state, exact=exact)[:2] for step in range(5)
            ]
            lists = [[*column] for column in zip(*made, strict=True)]
            total = torch.ones(N)
            ops().topk_accumulate_(total, *lists, scale=0.2)
            return [*lists[0], *lists[1], residual, state, total]
        finally:
            torch.set_num_threads(before)

    alone = run(1)
    for threads in (2, 3):
        assert all(same_bits(a, b) for a, b in zip(alone, run(threads), strict=True))


def test_momentum_correction():
    residual, velocity, state = torch.zeros(N), torch.zeros(N), fresh_state()
    wanted_v, wanted_u = torch.zeros(N), torch.zeros(N)
    for step in range(5):
        grad = gradient(N, step)
        wanted_u = wanted_u * 0.9 + grad * 0.5
        wanted_v = wanted_v + wanted_u
        indices, values, _, _ = compress(
            grad, residual, state, scale=0.5, velocity=velocity, momentum=0.9
        )
        assert torch.equal(values, wanted_v[indices.long()])
        wanted_v[indices.long()] = 0
        wanted_u[indices.long()] = 0
        assert torch.equal(residual, wanted_v)
        assert torch.equal(velocity, wanted_u)


def test_nan_and_infinity_are_sent_and_not_kept():
    grad = gradient(N)
    grad[[5, 77]] = torch.tensor([float("nan"), -float("inf")])
    indices, values, residual, _ = compress(grad)
    assert {5, 77} <= set(indices.tolist())
    assert torch.isnan(values[indices == 5]).all()
    assert torch.isfinite(residual).all()


def test_zeros_are_not_sent():
    grad = torch.zeros(N)
    grad[3] = 1e-40  # denormal, and not zero
    for exact in (False, True):
        indices, values, residual, _ = compress(grad, exact=exact)
        assert indices.tolist() == [3]
        assert torch.equal(values, grad[3:4])
        assert not residual.any()


def test_k_of_nothing_and_of_all():
    grad = gradient(1000)
    indices, _, residual, _ = compress(grad, k=0)
    assert len(indices) == 0
    assert torch.equal(residual, grad)
    indices, values, residual, _ = compress(grad, k=1000)
    assert torch.equal(values, grad)
    assert not residual.any()
    assert len(compress(torch.zeros(0), k=0)[0]) == 0


def test_the_padded_list_sums_to_the_same():
    grad = gradient(N)
    indices, values, count = ops().topk_compress(grad, torch.zeros(N), fresh_state(), K)
    count = int(count)
    assert len(indices) == K + K // 3 > count
    whole = ops().topk_decompress(indices, values, N)
    assert torch.equal(whole, ops().topk_decompress(indices[:count], values[:count], N))


def test_lists_of_several_ranks_sum_in_their_order():
    made = [compress(gradient(N, rank), values_dtype=torch.bfloat16)[:2] for rank in range(7)]
    wanted = torch.zeros(N)
    for indices, values in made:
        wanted[indices.long()] += values.float() * 0.125
    out = torch.zeros(N)
    ops().topk_accumulate_(out, [i for i, _ in made], [v for _, v in made], scale=0.125)
    assert same_bits(out, wanted)


BAD = [
    ({"grad": torch.zeros(10, dtype=torch.float64)}, "dtype Double; float32, float16"),
    ({"grad": torch.zeros(10, 2)[:, 0]}, "grad is not contiguous"),
    ({"residual": torch.zeros(9)}, "residual has 9 elements and grad 10"),
    ({"residual": torch.zeros(10, dtype=torch.float16)}, "residual is of dtype Half"),
    ({"state": torch.zeros(7, dtype=torch.float64)}, r"torch.zeros\(8, dtype=torch.float64\)"),
    ({"state": torch.zeros(8)}, "state is of dtype Float"),
    ({"k": 11}, "k is 11 and grad has 10 elements"),
    ({"k": -1}, "k is -1"),
    ({"momentum": 0.9}, "there is no velocity"),
    ({"values_dtype": torch.int8}, "values_dtype is of dtype Char"),
]


@pytest.mark.parametrize(("change", "says"), BAD)
def test_a_wrong_argument_is_named_and_nothing_is_changed(change, says):
    good = {"grad": torch.ones(10), "residual": torch.zeros(10), "state": fresh_state(), "k": 2}
    given = {**good, **change}
    with pytest.raises(RuntimeError, match=f"taco::topk_compress: .*{says}"):
        ops().topk_compress(**given)
    assert not given["residual"].any() and not given["state"].any()


def test_an_index_from_outside_that_is_out_of_range_is_an_error():
    values = torch.ones(2)
    for bad in (-1, 10, 2**31 - 1, -(2**31)):
        indices = torch.tensor([0, bad], dtype=torch.int32)
        with pytest.raises(RuntimeError, match=rf"index {bad} is not in \[0, 10\)"):
            ops().topk_decompress(indices, values, 10)
        out = torch.zeros(10)
        with pytest.raises(RuntimeError, match="list 1, position 1"):
            good = torch.tensor([0, 1], dtype=torch.int32)
            ops().topk_accumulate_(out, [good, indices], [values, values])
        assert not out.any()


def test_lists_that_do_not_fit_together_are_errors():
    indices, values = torch.zeros(2, dtype=torch.int32), torch.ones(3)
    with pytest.raises(RuntimeError, match="2 indices and 3 values"):
        ops().topk_decompress(indices, values, 10)
    with pytest.raises(RuntimeError, match="indices is of dtype Long"):
        ops().topk_decompress(indices.long(), values[:2], 10)
    with pytest.raises(RuntimeError, match="1 lists of indices and 2 of values"):
        ops().topk_accumulate_(torch.zeros(10), [indices], [values[:2]] * 2)
