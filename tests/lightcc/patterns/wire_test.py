"""Lists survive the wire, and whatever else arrives is refused with a reason."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from taco.lightcc.patterns.sparse_list import SparseList
from taco.lightcc.patterns.sparse_wire import WireError, WireFormat, decode, encode

from tests.lightcc.patterns._worlds import lists

MANY = settings(max_examples=200, deadline=None)
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int32, torch.int64]


@MANY
@given(
    gaps=st.lists(
        st.one_of(st.integers(1, 300), st.sampled_from([254, 255, 256, 65534, 65535, 65536])),
        max_size=40,
    ),
    first=st.sampled_from([0, 1, 255, 65535, (1 << 31) - 20_000_000]),
    compact=st.booleans(),
    dtype=st.sampled_from(DTYPES),
)
def test_what_is_encoded_comes_back(
    gaps: list[int], first: int, compact: bool, dtype: torch.dtype
) -> None:
    indices = torch.tensor([first, *gaps]).cumsum(0)
    values = torch.arange(len(indices)).to(dtype)
    part = SparseList(indices.int(), values, (1 << 31) - 1)
    message = encode(part, WireFormat(compact=compact))
    assert message.dtype == torch.uint8 and len(message) % 8 == 0
    again = decode(message, part.length, dtype)
    assert torch.equal(again.indices, part.indices) and torch.equal(again.values, values)
    assert again.indices.dtype == torch.int32


def test_indices_at_one_percent_take_a_third() -> None:
    part = lists(1, 100_000, 1000)[0]
    raw, coded = (len(encode(part, WireFormat(compact=compact))) for compact in (False, True))
    assert raw == 8 * 1000 + 32
    assert coded < (4 + 1.4) * 1000 + 32


@MANY
@given(data=st.data(), compact=st.booleans())
def test_a_damaged_message_is_a_list_or_a_wire_error(data, compact: bool) -> None:
    part = lists(1, 3000, 20)[0]
    message = encode(part, WireFormat(compact=compact))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(message) - 1))
        message[at] = data.draw(st.integers(0, 255))
    message = message[: 8 * data.draw(st.integers(0, len(message) // 8))]
    try:
        arrived = decode(message, 3000, torch.float32)
    except WireError:
        return
    indices = arrived.indices.tolist()
    assert indices == sorted(set(indices)) and all(0 <= index < 3000 for index in indices)


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        (0, -1, "elements"),
        (0, 1 << 62, "elements"),
        (0, 4, "says that it has"),
        (1, 3, "unknown code"),
        (1, -1, "unknown code"),
        (2, 1 << 40, "escapes"),
        (3, 1, "float32"),
        (3, -1, "float32"),
        (3, 99, "float32"),
    ],
)
def test_each_field_of_the_header_is_checked(field: int, value: int, complaint: str) -> None:
    message = encode(lists(1, 100, 7)[0], WireFormat())
    message.view(torch.int64)[field] = value
    with pytest.raises(WireError, match=complaint):
        decode(message, 100, torch.float32)


def test_indices_outside_of_the_tensor_are_refused() -> None:
    part = lists(1, 100, 7)[0]
    for compact in (False, True):
        message = encode(part, WireFormat(compact=compact))
        with pytest.raises(WireError, match="do not fit"):
            decode(message, int(part.indices[-1]), torch.float32)


def test_values_without_a_code_are_refused() -> None:
    part = lists(1, 10, 3)[0]
    with pytest.raises(ValueError, match="no code"):
        encode(SparseList(part.indices, part.values.bool(), 10), WireFormat())
