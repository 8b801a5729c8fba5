"""ElasticSampler deals out what is left."""

import pytest
from taco.lightcc.torch.elastic import ElasticSampler, sampler


@pytest.fixture
def place(monkeypatch):
    """`place(rank, size)` sets this process's place."""

    def put(rank, size):
        monkeypatch.setattr(sampler, "rank", lambda: rank)
        monkeypatch.setattr(sampler, "size", lambda: size)

    return put


def dealt(place, size, length, processed=0, **options):
    parts = []
    for rank in range(size):
        place(rank, size)
        each = ElasticSampler(range(length), **options)
        each.load_state_dict({"epoch": each.epoch, "processed_num": processed})
        parts.append(list(each))
        assert len(each) == len(parts[-1])
    return parts


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize(("length", "processed"), [(12, 0), (12, 5), (12, 11), (1, 0), (12, 12)])
def test_all_that_is_left_is_dealt_in_equal_parts(place, size, length, processed):
    parts = dealt(place, size, length, processed, shuffle=False)
    assert len({len(part) for part in parts}) == 1
    assert {i for part in parts for i in part} == set(range(processed, length))
    assert sum(map(len, parts)) < length - processed + size


def test_the_order_is_another_one_each_epoch_and_the_same_on_all_ranks(place):
    parts = dealt(place, 2, 20, seed=3)
    assert sorted(parts[0] + parts[1]) == list(range(20))
    place(0, 2)
    each = ElasticSampler(range(20), seed=3)
    assert list(each) == parts[0]
    each.set_epoch(1)
    assert list(each) != parts[0]


def test_batches_count_for_all_ranks_and_an_epoch_begins_with_none(place):
    place(1, 2)
    each = ElasticSampler(range(8), shuffle=False)
    each.record_batch(0, 2)
    assert each.state_dict() == {"epoch": 0, "processed_num": 4}
    assert len(each) == 4  # until the next reset
    place(0, 1)
    each.reset()
    assert list(each) == [4, 5, 6, 7]
    each.set_epoch(1)
    assert each.state_dict() == {"epoch": 1, "processed_num": 0}
    assert len(each) == 8
