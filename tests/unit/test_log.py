"""The log: readable, without credentials, without floods."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from agent import log

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    """Give the root logger its handlers and level back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_warning_is_one_plain_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Without -v a person sees the program, the level and the text."""
    log.setup()
    logging.getLogger("agent.mqtt").warning("the broker refused version %d", 5)
    logging.getLogger("agent.mqtt").info("not shown")
    assert capsys.readouterr().err == "edge-agent: warning: the broker refused version 5\n"


@pytest.mark.parametrize(
    ("verbose", "shown"), [(1, ["info"]), (2, ["info", "debug"]), (5, ["info", "debug"])]
)
def test_verbose_adds_time_and_logger(
    verbose: int, shown: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """With -v there are more levels, and each line says when and where."""
    log.setup(verbose)
    logging.getLogger("agent.mqtt").info("connected")
    logging.getLogger("agent.mqtt").debug("connected with version 5")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("agent.mqtt: ")[1].split(":")[0] for line in lines] == shown
    assert lines[0][:4].isdigit()


def test_credentials_are_redacted_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    """A password shows neither in the message, nor in its arguments, nor in a traceback."""
    log.setup()
    logger = logging.getLogger("agent.capture")
    logger.warning("rtsp://me:hunter2@camera/1 is away")
    logger.warning("%s is away", "rtsp://me:hunter2@camera/2")
    try:
        raise OSError("rtsp://me:hunter2@camera/3")
    except OSError:
        logger.exception("failed")
    shown = capsys.readouterr().err
    assert "hunter2" not in shown
    assert shown.count("rtsp://***@camera/") >= 3


def test_a_flood_is_held_back_and_counted() -> None:
    """The same text goes out once every ten seconds, then with the number of those held back."""
    now_s = 0.0
    calm = log.Calm(repeat_s=10.0, clock=lambda: now_s)

    def offer(text: str) -> str | None:
        record = logging.LogRecord("agent", logging.WARNING, "", 0, "%s", (text,), None)
        return record.getMessage() if calm.filter(record) else None

    assert offer("camera away") == "camera away"
    assert [offer("camera away") for _ in range(3)] == [None] * 3
    assert offer("disk full") == "disk full"
    now_s = 10.0
    assert offer("camera away") == "camera away (and 3 times more)"
    now_s = 20.0
    assert offer("camera away") == "camera away"


def test_the_memory_of_floods_is_bounded() -> None:
    """Ten thousand different messages do not stay in memory."""
    calm = log.Calm()
    for n in range(10_000):
        assert calm.filter(logging.LogRecord("agent", logging.WARNING, "", 0, f"frame {n}", (), None))
    assert len(calm._seen) <= 256
