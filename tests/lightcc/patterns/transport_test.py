"""Transports made of others, and the simulated network's own promises."""

import pytest
import torch
from taco.lightcc.patterns.simulated import NetworkError, SimulatedNetwork
from taco.lightcc.patterns.transport import CountingTransport, Subgroup


def test_tags_overtake_each_other_and_one_tag_keeps_its_order() -> None:
    def talk(transport) -> list[float]:
        if transport.rank == 0:
            for value, tag in [(1.0, 0), (2.0, 0), (3.0, 1)]:
                transport.send(torch.tensor([value]), 1, tag).wait()
            return []
        tensors = [torch.zeros(1) for _ in range(3)]
        works = [transport.recv(each, 0, tag) for each, tag in zip(tensors, [1, 0, 0], strict=True)]
        for work in reversed(works):
            work.wait()
        return [float(each) for each in tensors]

    assert SimulatedNetwork(2).run(talk)[1] == [3.0, 1.0, 2.0]


def test_a_subgroup_has_its_own_numbers() -> None:
    def talk(transport) -> float:
        if transport.rank == 1:
            return 0.0
        group = Subgroup(transport, [2, 0])
        tensor = torch.tensor([float(transport.rank)])
        if group.rank == 0:
            group.send(tensor, 1).wait()
        else:
            group.recv(tensor, 0).wait()
        return float(tensor)

    assert SimulatedNetwork(3).run(talk) == [2.0, 0.0, 2.0]


@pytest.mark.parametrize("ranks", [[0, 0], [0, 3], [1, 2]])
def test_a_subgroup_needs_distinct_ranks_and_its_own(ranks: list[int]) -> None:
    with pytest.raises(ValueError, match="rank"):
        Subgroup(SimulatedNetwork(3).transport(0), ranks)


def test_counts_bytes_by_peer_and_level() -> None:
    def talk(transport) -> tuple:
        counted = CountingTransport(transport, lambda peer: "near" if peer < 2 else "far")
        if transport.rank == 0:
            for peer, number in ((1, 3), (2, 5)):
                counted.send(torch.zeros(number), peer).wait()
        else:
            counted.recv(torch.zeros(3 if transport.rank == 1 else 5), 0).wait()
        return counted.sent_by_level(), dict(counted.received)

    assert SimulatedNetwork(3).run(talk) == [
        ({"near": 12, "far": 20}, {}),
        ({}, {0: 12}),
        ({}, {0: 20}),
    ]


def test_a_deadlock_is_an_error() -> None:
    network = SimulatedNetwork(2, timeout=0.2)
    with pytest.raises(NetworkError, match="in vain|died"):
        network.run(lambda transport: transport.recv(torch.zeros(1), 1 - transport.rank).wait())


def test_a_message_of_another_kind_is_an_error() -> None:
    def talk(transport) -> None:
        if transport.rank == 0:
            transport.send(torch.zeros(3), 1).wait()
        else:
            transport.recv(torch.zeros(2), 0).wait()

    with pytest.raises(ValueError, match="expected"):
        SimulatedNetwork(2).run(talk)
    with pytest.raises(ValueError, match="one dimension"):
        SimulatedNetwork(2).transport(0).send(torch.zeros(2, 2), 1)
    with pytest.raises(ValueError, match="cannot send"):
        SimulatedNetwork(2).transport(0).send(torch.zeros(2), 0)
