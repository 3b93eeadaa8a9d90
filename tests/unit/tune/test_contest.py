"""The turns of the candidates, and what becomes of one that fails."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.backends.choice import Choice
from agent.starter import starter_bundle
from agent.tune.child import Answer, Question
from agent.tune.contest import ask_child, hold

if TYPE_CHECKING:
    from agent.measured import Measured

GOOD = Choice("litert", "good", "int8", 1)
BAD = Choice("litert", "bad", "int8", 2)


class Play:
    """Answers questions by a table of times, and writes down what was asked."""

    def __init__(self, answers: dict[str, list[Answer]]) -> None:
        self._answers = {name: iter(each) for name, each in answers.items()}
        self.asked: list[Question] = []
        self.degrees = iter(range(40, 400))

    def ask(self, question: Question) -> Answer:
        self.asked.append(question)
        return next(self._answers[question.choice.artifact])

    def hold(self, *choices: tuple[Choice, str], rounds: int = 2) -> tuple[Measured, ...]:
        return hold(
            Path("bundle"),
            Path("state"),
            choices,
            rounds=rounds,
            seconds=3.0,
            ask=self.ask,
            heat=lambda: float(next(self.degrees)),
            tell=lambda *_: None,
        )


def test_the_candidates_take_turns() -> None:
    """Round by round, with their share of the time; the trial is in the first."""
    play = Play({"good": [Answer((1.0,))] * 2, "bad": [Answer((2.0,))] * 2})
    play.hold((GOOD, ""), (BAD, ""))
    assert [(q.choice.artifact, q.seconds, q.trial) for q in play.asked] == [
        ("good", 1.5, True),
        ("bad", 1.5, True),
        ("good", 1.5, False),
        ("bad", 1.5, False),
    ]


def test_the_times_of_all_rounds_come_together() -> None:
    """Median and percentile over all, the most memory, the heat before the first and after the last."""
    play = Play({"good": [Answer((1.0, 1.0, 3.0), peak_rss_mb=80.0), Answer((1.0, 9.0), peak_rss_mb=90.0)]})
    (found,) = play.hold((GOOD, ""))
    assert (found.inferences, found.p50_ms, found.peak_rss_mb) == (5, 1.0, 90.0)
    assert found.p95_ms == pytest.approx(7.8)
    assert (found.before_c, found.after_c) == (40.0, 42.0)


def test_an_engine_for_several_pictures_at_once_has_a_figure_for_that() -> None:
    """The median of all turns."""
    play = Play({"good": [Answer((1.0,), 4, (2.0, 3.0)), Answer((1.0,), 4, (3.0, 9.0))]})
    (found,) = play.hold((GOOD, ""))
    assert (found.p50_ms, found.batch, found.batch_ms) == (1.0, 4, 3.0)


@pytest.mark.parametrize("at", [0, 1])
def test_one_that_fails_has_no_figures_and_no_more_turns(at: int) -> None:
    """Whenever it fails; the others go on."""
    answers = [Answer((1.0,)), Answer((1.0,)), Answer((1.0,))]
    answers[at] = Answer(fault="it crashed (SIGSEGV)")
    play = Play({"good": [Answer((2.0,))] * 3, "bad": answers})
    good, bad = play.hold((GOOD, ""), (BAD, ""), rounds=3)
    assert (good.p50_ms, good.objection) == (2.0, "")
    assert (bad.p50_ms, bad.p95_ms, bad.objection) == (None, None, "it crashed (SIGSEGV)")
    assert [q.choice.artifact for q in play.asked].count("bad") == at + 1


def test_one_with_an_objection_is_measured_all_the_same() -> None:
    """For comparison."""
    (found,) = Play({"good": [Answer((2.0,))] * 2}).hold((GOOD, "below its floor"))
    assert (found.p50_ms, found.objection) == (2.0, "below its floor")


@given(st.integers(1, 5), st.lists(st.booleans(), max_size=5))
def test_every_candidate_has_one_result_in_its_order(rounds: int, sound: list[bool]) -> None:
    """However many there are, and whichever fail."""
    choices = [Choice("litert", str(n), "int8", 1) for n in range(len(sound))]
    answer = {True: Answer((1.0,)), False: Answer(fault="no")}
    play = Play({str(n): [answer[good]] * rounds for n, good in enumerate(sound)})
    found = play.hold(*((choice, "") for choice in choices), rounds=rounds)
    assert [each.choice for each in found] == choices
    assert [each.p50_ms is not None for each in found] == sound


def question(**change: object) -> Question:
    choice = Choice("litert", "int8.tflite", "int8", 1)
    asked = Question(str(starter_bundle()), "state", choice, seconds=0.05, trial=True)
    return msgspec.structs.replace(asked, **change)


def test_a_child_measures_the_starter() -> None:
    """Really: times, memory, no fault."""
    answer = ask_child(question())
    assert answer.fault == ""
    assert len(answer.took_ms) >= 3
    assert min(answer.took_ms) > 0
    assert answer.peak_rss_mb is not None
    assert answer.peak_rss_mb > 10


def test_a_fault_of_the_bundle_is_one_line_of_the_child(tmp_path: Path) -> None:
    """What the agent says of it anywhere."""
    assert ask_child(question(bundle=str(tmp_path / "none"))).fault.startswith("model bundle not found")


def test_a_child_that_crashes_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime that crashes takes neither this process nor the others with it."""
    broken = tmp_path / "ai_edge_litert"
    broken.mkdir()
    (broken / "__init__.py").write_text("")
    (broken / "interpreter.py").write_text("import os; os.abort()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert ask_child(question()).fault == "it crashed (SIGABRT)"


def test_a_child_that_ends_without_an_answer_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last line says why."""
    (tmp_path / "ai_edge_litert.py").write_text("raise MemoryError('no room')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert ask_child(question()).fault == "MemoryError: no room"


def test_a_child_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is killed, and that is the fault."""
    (tmp_path / "ai_edge_litert.py").write_text("import threading; threading.Event().wait()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("agent.tune.contest.LIMIT_S", 1.0)
    assert ask_child(question(seconds=0.0)).fault == "no answer within 1 s"
