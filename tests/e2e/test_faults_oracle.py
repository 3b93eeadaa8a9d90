"""The oracle of the fault runs: each way to lose, repeat or disorder a message is seen."""

from __future__ import annotations

import json

from tests.faults.oracle import Oracle, Verdict
from tests.faults.outboxfile import Account

E1 = "E dev/e1/{lane}/{seq} {dup} {type} {event}"


def line(seq: int, *, lane: str = "P0", dup: int = 0, kind: str = "update", event: str = "") -> str:
    return E1.format(lane=lane, seq=seq, dup=dup, type=kind, event=event or f"x{lane}{seq}") + "\n"


def gap(first: int, last: int, count: int) -> str:
    return "G " + json.dumps({"epoch": "e1", "lane": "P0", "from_seq": first, "to_seq": last, "count": count})


def judge(*lines: str, allocated: int = 4, told: int = 0) -> Verdict:
    oracle = Oracle()
    oracle.file_says({("e1", "P0"): Account(allocated, allocated, 0, 0, frozenset())})
    oracle.process_says(json.dumps({"last": {"e1/P0": told}, "committed": True}))
    oracle.process_says('{"last": {"e1/P0": 99}, "comm')
    oracle.process_says(json.dumps({"last": {"e1/P0": 99}, "committed": False}))
    return oracle.judge(lines)


def test_all_there_is_sound() -> None:
    """Every committed number once and in order."""
    verdict = judge(*map(line, (1, 2, 3, 4)))
    assert verdict.sound
    assert (verdict.committed, verdict.received, verdict.copies) == (4, 4, 0)


def test_a_number_that_is_missing_is_lost() -> None:
    """Unless a gap explains it, and as many as it counts."""
    verdict = judge(*map(line, (1, 4)))
    assert (verdict.lost, verdict.lost_ids) == (2, ("e1/P0/2", "e1/P0/3"))
    assert judge(*map(line, (1, 4)), gap(2, 3, 2)).sound
    assert judge(*map(line, (1, 4)), gap(1, 4, 1)).lost == 1
    assert judge(*map(line, (1, 4)), gap(3, 3, 1), gap(1, 4, 1)).lost_by_gap == 2


def test_what_was_told_must_be_in_the_file() -> None:
    """A process that told more than its file holds has lied; the words of a killed one are taken as far as whole."""
    verdict = judge(*map(line, (1, 2, 3, 4)), told=6)
    assert (verdict.told_but_absent, verdict.lost) == (2, 2)
    oracle = Oracle()
    oracle.process_says(json.dumps({"last": {"e1/P0": 2}, "committed": True}))
    assert oracle.judge(map(line, (1, 2))).sound  # an epoch that no look at the file has seen
    assert oracle.judge([line(1)]).lost == 1


def test_what_came_before_it_was_committed_is_seen() -> None:
    """A number that the file never gave out must not have been sent."""
    assert judge(*map(line, (1, 2, 3, 4, 5))).never_committed == 1


def test_copies_and_order() -> None:
    """Copies of the agent and of the broker are told apart; order is that of the first copies."""
    verdict = judge(line(1), line(2), line(1), line(2, dup=1), line(3), line(4))
    assert (verdict.copies, verdict.copies_by_broker, verdict.inversions) == (1, 1, 0)
    assert judge(*map(line, (1, 3, 2, 4))).inversions == 1
    assert judge(*map(line, (1, 2, 3, 4)), line(3, event="another")).ids_reused == 1


def test_a_life_begins_and_ends_once() -> None:
    """The same beginning under two numbers is a duplicate that no subscriber can remove."""
    beginnings = (line(n, kind="new", event="x") for n in (1, 2))
    assert judge(*beginnings, line(3, kind="end", event="x"), line(4)).lives_broken == 1
    assert judge(line(1, kind="new", event="x"), *map(line, (2, 3, 4))).left_open == 1


def test_accounts_that_do_not_add_up() -> None:
    """What was given out is confirmed, queued, evicted or corrupt."""
    assert Account(5, 2, 1, 0, frozenset({4, 5})).holds
    assert not Account(5, 2, 1, 0, frozenset({5})).holds
