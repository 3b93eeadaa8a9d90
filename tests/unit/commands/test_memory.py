"""What is remembered of commands."""

from __future__ import annotations

from agent.commands.memory import Memory
from agent.wire import CommandResult


def answer(name: str, result: object = None) -> CommandResult:
    """Return an answer to the command `name`."""
    return CommandResult(1, name, "status", "done", "", result, "2026-11-22T12:00:00.000Z")


def test_the_last_answer_counts() -> None:
    """A command that is at work is known, with the last that was told of it."""
    memory = Memory()
    assert "a" not in memory
    memory.put(answer("a", 1))
    memory.put(answer("a", 2))
    assert "a" in memory
    kept = memory.get("a")
    assert kept is not None
    assert kept.result == 2


def test_it_is_bounded_in_number_and_bytes() -> None:
    """The oldest goes; a large result goes before its id does, and says so."""
    memory = Memory(most=3, most_bytes=100)
    for n in range(5):
        memory.put(answer(str(n), "x" * 60))
    assert [str(n) in memory for n in range(5)] == [False, False, True, True, True]
    old, new = memory.get("2"), memory.get("4")
    assert old is not None
    assert new is not None
    assert (old.result, new.result) == (None, "x" * 60)
    assert "not kept" in old.reason
