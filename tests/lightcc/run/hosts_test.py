"""Hosts are read as users write them, and filled one after the other."""

import pytest
from taco.lightcc.run import hosts
from taco.lightcc.run.hosts import Host, HostsError


def test_hosts_with_and_without_slots():
    assert hosts.parse_hosts("a:2, b.c-d:10,e,a:1") == [
        Host("a", 3),
        Host("b.c-d", 10),
        Host("e", 1),
    ]


def test_a_hostfile(tmp_path):
    path = tmp_path / "hosts"
    path.write_text("# the big ones\na slots=2\n\nb:3  # newer\nc\nd slots = 4\n")
    assert hosts.parse_hostfile(path) == [Host("a", 2), Host("b", 3), Host("c", 1), Host("d", 4)]


@pytest.mark.parametrize("text", ["a slots", "a slots=x", "a b c", ""])
def test_other_lines_are_refused(tmp_path, text):
    path = tmp_path / "hosts"
    path.write_text(text + "\n")
    with pytest.raises(HostsError, match="hosts"):
        hosts.parse_hostfile(path)


def test_cross_numbers_count_hosts_with_that_local_rank():
    slots = hosts.assign([Host("a", 1), Host("b", 3), Host("c", 2)], 6, None)
    assert [(s.hostname, s.rank, s.local_rank, s.cross_rank, s.cross_size) for s in slots] == [
        ("a", 0, 0, 0, 3),
        ("b", 1, 0, 1, 3),
        ("b", 2, 1, 0, 2),
        ("b", 3, 2, 0, 1),
        ("c", 4, 0, 2, 3),
        ("c", 5, 1, 1, 2),
    ]


def test_no_more_ranks_than_wanted():
    slots = hosts.assign([Host("a", 2), Host("b", 2), Host("c", 2)], 3, 3)
    assert [(s.name, s.size, s.local_size) for s in slots] == [
        ("a:0", 3, 2),
        ("a:1", 3, 2),
        ("b:0", 3, 1),
    ]
    assert hosts.local_sizes(slots) == {"a": 2, "b": 1}
