"""Messages survive any cut of the stream, and nonsense is refused."""

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from taco.lightcc.engine import wire

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.lists(st.dictionaries(st.text(), JSON), max_size=5), st.lists(st.integers(1, 40)))
def test_messages_come_out_as_they_went_in_however_the_stream_is_cut(messages, cuts):
    stream = b"".join(wire.encode(message) for message in messages)
    decoder = wire.Decoder()
    found, start = [], 0
    for length in [*cuts, len(stream)]:
        found += decoder.feed(stream[start : start + length])
        start += length
    assert found == messages


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">I", wire.MAX_MESSAGE + 1),
        struct.pack(">I", 3) + b"[1]",
        struct.pack(">I", 2) + b"{x",
        struct.pack(">I", 1) + b"\xff",
        struct.pack(">I", 0),
    ],
)
def test_what_is_no_message_is_refused(data):
    with pytest.raises(wire.ProtocolError):
        wire.Decoder().feed(data)


@given(st.binary(max_size=200))
def test_any_bytes_give_messages_or_a_protocol_error(data):
    try:
        for message in wire.Decoder().feed(data):
            json.dumps(message)
    except wire.ProtocolError:
        pass


def test_a_message_that_is_too_long_is_not_sent(monkeypatch):
    monkeypatch.setattr(wire, "MAX_MESSAGE", 10)
    with pytest.raises(wire.ProtocolError, match="longer than 10"):
        wire.encode({"text": "0123456789"})


def test_the_address_towards_an_unknown_host_is_the_loopback():
    assert wire.address_towards("127.0.0.1") == "127.0.0.1"
    assert wire.address_towards("no.such.host.invalid") == "127.0.0.1"
