"""How a list of (index, value) looks on the wire, and what is checked of one that arrives.

    int64 x 4   count, code of the indices, number of escapes, code of the value dtype
    values      count of them
    escapes     int32: the differences that were too large
    indices     int32, or differences to the index before (the first: to 0) in 8 or 16 bits, of
                which the largest number says "take the next escape"

Every section begins at a multiple of 8 bytes. Numbers are little-endian, as on all machines that
torch runs on. At a density of 1% the mean difference is 100: a byte holds 92 of 100, and an index
costs 1.3 bytes instead of 4. The encoder takes whichever code is shortest.
"""

import dataclasses

import torch

from taco.lightcc.patterns.sparse_list import SparseList, check_list

_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int32, torch.int64)
_HEADER = 32
_RAW, _BYTE, _SHORT = range(3)
_INDEX_DTYPES = (torch.int32, torch.uint8, torch.int16)
_ESCAPE = {_BYTE: 0xFF, _SHORT: 0xFFFF}


class WireError(ValueError):
    """What arrived is no list of the agreed kind."""


@dataclasses.dataclass(frozen=True)
class WireFormat:
    """What goes over the wire.

    Attributes:
        value_dtype: of the values on the wire; None leaves them as they are. A value that it cannot
            hold becomes infinite (fp16: above 65504).
        compact: whether indices may be coded as differences in 8 or 16 bits. That is two thirds of
            the bytes at 1%, and worth its time below some 300 Mbit/s (docs/lightcc_patterns.md).
    """

    value_dtype: torch.dtype | None = None
    compact: bool = False


def encode(part: SparseList, wire: WireFormat) -> torch.Tensor:
    """A list as a message.

    Args:
        part: the list.
        wire: how.

    Returns:
        (bytes,) uint8, a multiple of 8 bytes, aligned to 8.

    Raises:
        ValueError: the list is not as it has to be, or has values of another dtype than floats and
            32 or 64-bit integers.
    """
    check_list(part)
    values = part.values.to(wire.value_dtype or part.values.dtype)
    if values.dtype not in _DTYPES:
        raise ValueError(f"values of {values.dtype} have no code")
    code, escapes, indices = _code_indices(part.indices) if wire.compact else _raw(part.indices)
    header = torch.tensor(
        [len(values), code, len(escapes), _DTYPES.index(values.dtype)], dtype=torch.int64
    )
    sections = [header, values, escapes, indices]
    message = torch.zeros(sum(map(_padded, sections)), dtype=torch.uint8)
    at = 0
    for section in sections:
        raw = section.contiguous().view(torch.uint8)
        message[at : at + len(raw)] = raw
        at += _padded(section)
    return message


def decode(message: torch.Tensor, length: int, dtype: torch.dtype) -> SparseList:
    """The list that a message holds.

    Args:
        message: (bytes,) uint8, aligned to 8.
        length: of the dense tensor that the list is a part of.
        dtype: that the values have to have on the wire.

    Returns:
        The list; its values are a view of the message.

    Raises:
        WireError: a length, a code or an index is not as it has to be.
    """
    if len(message) < _HEADER:
        raise WireError(f"a list of {len(message)} bytes has no header")
    count, code, escaped, value_code = message[:_HEADER].view(torch.int64).tolist()
    if not 0 <= count <= length or not 0 <= escaped <= count:
        raise WireError(f"a list of {count} elements, {escaped} escapes, for a length of {length}")
    if not 0 <= code < len(_INDEX_DTYPES):
        raise WireError(f"indices of an unknown code, {code}")
    if not 0 <= value_code < len(_DTYPES) or _DTYPES[value_code] != dtype:
        raise WireError(f"values of code {value_code} where {dtype} was agreed on")
    shapes = ((count, dtype), (escaped, torch.int32), (count, _INDEX_DTYPES[code]))
    ends = [_HEADER]
    for number, kind in shapes:
        ends.append(ends[-1] + _round_up(number * kind.itemsize))
    if ends[-1] != len(message):
        raise WireError(f"a list of {len(message)} bytes says that it has {ends[-1]}")
    values, escapes, indices = (
        message[at : at + number * kind.itemsize].view(kind)
        for at, (number, kind) in zip(ends, shapes, strict=False)
    )
    part = SparseList(_plain(indices, escapes, code), values, length)
    try:
        check_list(part)
    except ValueError as error:
        raise WireError(f"a list arrived of which {error}") from error
    return part


def _raw(indices: torch.Tensor) -> tuple[int, torch.Tensor, torch.Tensor]:
    return _RAW, indices[:0], indices


def _code_indices(indices: torch.Tensor) -> tuple[int, torch.Tensor, torch.Tensor]:
    """Code, escapes and coded indices, whichever are shortest."""
    gaps = torch.diff(indices, prepend=indices.new_zeros(1))
    best = (4 * len(indices), _RAW)
    for code, limit in _ESCAPE.items():
        escaped = int((gaps >= limit).sum())
        best = min(best, (_INDEX_DTYPES[code].itemsize * len(indices) + 4 * escaped, code))
    code = best[1]
    if code == _RAW:
        return _raw(indices)
    limit = _ESCAPE[code]
    return code, gaps[gaps >= limit], gaps.clamp(max=limit).to(_INDEX_DTYPES[code])


def _plain(indices: torch.Tensor, escapes: torch.Tensor, code: int) -> torch.Tensor:
    if code == _RAW:
        return indices
    gaps = indices.to(torch.int32)
    if code == _SHORT:
        gaps &= 0xFFFF
    places = (gaps == _ESCAPE[code]).nonzero().squeeze(1)
    if len(places) != len(escapes):
        raise WireError(f"a list has {len(escapes)} escapes and needs {len(places)}")
    gaps[places] = escapes
    if len(gaps) and int(gaps.min()) < 0:
        raise WireError("a list has a negative difference")
    plain = gaps.cumsum(0)
    if len(plain) and int(plain[-1]) >= 1 << 31:
        raise WireError("a list's differences exceed 32 bits")
    return plain.to(torch.int32)


def _padded(section: torch.Tensor) -> int:
    return _round_up(section.numel() * section.element_size())


def _round_up(size: int) -> int:
    return (size + 7) // 8 * 8
