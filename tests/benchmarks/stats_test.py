"""The benchmark's arithmetic: ratios round by round, spreads, tails, verdicts, memory."""

import dataclasses

import pytest

from benchmarks.embedding import claims, stats, terminal, workloads
from benchmarks.embedding.cases import Case


def rounds(*seconds, group=0, items=100):
    """Rounds that took the given seconds."""
    return [
        {"group": group, "index": i, "items": items, "seconds": [s]} for i, s in enumerate(seconds)
    ]


def result(case, **contestants):
    """A result of the given rounds."""
    return {
        "case": case.to_json(),
        "contestants": {name: {"rounds": r, "note": ""} for name, r in contestants.items()},
        "notes": [],
    }


LOOKUP = Case("lookup", 16, 1000, "uniform", 1, 0, 100, 4, 3)
GROWTH = dataclasses.replace(LOOKUP, kind="growth", keys="new", batches=0)


def test_ratios_are_taken_round_by_round():
    # Noise that slows one round of both by ten leaves the ratio as it is.
    assert stats.ratios(rounds(1, 10, 1), rounds(2, 20, 2)) == [2, 2, 2]


def test_ratios_take_the_subjects_round_beside_the_peer():
    subject = rounds(1, 1, group=0) + rounds(4, 4, group=1)
    assert stats.ratios(subject, rounds(8, 8, group=1)) == [2, 2]


def test_ratios_of_those_never_side_by_side_pair_equal_numbers():
    assert stats.ratios(rounds(1, 2, group=0), rounds(2, 6, group=1)) == [2, 3]


def test_ratios_leave_out_rounds_that_one_lacks():
    assert stats.ratios(rounds(1), rounds(3, 3, 3)) == [3]
    assert stats.ratios([], rounds(3)) == []


def test_spread_is_median_and_outer_deciles():
    found = stats.spread(list(range(11)))
    assert (found.median, found.p10, found.p90, found.count) == (5, 1, 9, 11)
    assert stats.spread([]) is None


def test_tail_does_not_interpolate_between_batches():
    # 1221 batches, as many as 10 M rows take: p99.9 is the second longest.
    tail = stats.tail([1.0] * 1219 + [7.0, 50.0])
    assert (tail.p999_ratio, tail.longest_ratio) == (7.0, 50.0)
    assert stats.tail([]) is None


@pytest.mark.parametrize(("theirs", "met"), [(10.0, True), (7.0, False)])
def test_speed_is_judged_by_the_median_ratio(theirs, met):
    measured = result(LOOKUP, taco=rounds(1, 1, 1), tfra=rounds(theirs, theirs, 1))
    found = {f.peer: f for f in claims.findings(measured)}
    assert found["tfra"].met is met
    assert found["taco"].met is None


@pytest.mark.parametrize(("seconds", "beyond"), [(1.0, True), (0.5, False)])
def test_a_target_that_the_memory_work_misses_is_beyond_the_floor(seconds, beyond):
    measured = result(LOOKUP, taco=rounds(2, 2), tfra=rounds(7, 7), floor=rounds(seconds, seconds))
    (line,) = (f.to_json() for f in claims.findings(measured) if f.peer == "tfra")
    assert line["met"] is False
    assert terminal.beyond_floor(line) is beyond
    tally = terminal.tally({"findings": [line]})
    assert tally.endswith(f"1 missed beside a floor, {int(beyond)} of them by that too")


def test_without_a_floor_no_target_is_beyond_it():
    measured = result(LOOKUP, taco=rounds(2), tfra=rounds(7))
    lines = [f.to_json() for f in claims.findings(measured)]
    assert not any(terminal.beyond_floor(line) for line in lines)
    del lines[-1]["floor"]  # results from before there was one
    assert terminal.tally({"findings": lines}) == "0 of 1 targets met, 0 not measured"


def test_what_was_not_measured_is_neither_met_nor_missed():
    (ours, tfra) = claims.findings(result(LOOKUP, taco=[], tfra=rounds(1)))
    assert ours.value is None and tfra.met is None and tfra.target


def test_memory_is_judged_by_the_worst_round_and_only_for_the_subject():
    def growth(worst):
        memory = {"resident_max": worst, "resident_last": 1.0, "own_max": 1.1}
        return {"group": 0, "index": 0, "items": 9, "seconds": [1, 1, 9], "memory": memory}

    measured = result(GROWTH, taco=[growth(1.1), growth(1.3)], tfra=[growth(4.0)])
    found = {(f.peer, f.what): f for f in claims.findings(measured)}
    assert found["taco", "highest resident over payload"].met is False
    assert found["taco", "highest own count over payload"].met is True
    assert found["taco", "p99.9 batch over median"].met is False
    assert found["tfra", "highest resident over payload"].met is None


def test_thinning_keeps_the_peaks():
    series = [(i, 9.0 if i == 77 else 1.0) for i in range(1000)]
    thinned = workloads.thin(series, 50)
    assert len(thinned) <= 50 and (77, 9.0) in thinned


def test_timing_stops_at_the_call_that_reaches_the_budget():
    assert len(workloads.timed(lambda _: None, range(5), float("inf"))) == 5
    assert len(workloads.timed(lambda _: None, range(5), 0.0)) == 1
