"""One tuning from beginning to end: look at device and bundle, measure, choose, keep."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

from agent.backends.runtimes import find_runtimes, try_runtimes
from agent.backends.usable import usable_backends
from agent.bundle import NOBODY, load_bundle
from agent.errors import BadData
from agent.hardware import identify, read_facts, read_throttling
from agent.hardware.sensors import read_zones
from agent.measured import Device, Tuning, choose, slower_int8, write_tuning
from agent.measured.store import hashes, prepare
from agent.tune.candidates import absent, candidates, objection_to
from agent.tune.contest import ask_child, hold

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.backends.choice import Choice
    from agent.bundle import Bundle, Trust
    from agent.tune.contest import Ask

ROUNDS = 3


def tune(
    path: Path,
    state_dir: Path,
    *,
    seconds: float,
    cameras: int = 1,
    trust: Trust = NOBODY,
    tell: Callable[[str, int, int], None],
    ask: Ask = ask_child,
) -> tuple[Tuning, Path | None]:
    """Measure the bundle `path`, each candidate for `seconds`; keep what came of it in `state_dir`; return both.

    Pictures of so many `cameras` wait together, for engines that take several at once.
    None is kept where nothing may run. `tell` gets what is measured, and the turn it is of how many.
    Raises InputMissing, BadData, NotPermitted for the bundle, CannotCreate for `state_dir`.
    """
    bundle = load_bundle(path, trust)
    prepare(state_dir)
    board, artifacts = identify(read_facts()), bundle.manifest.artifact
    backends = usable_backends(board, try_runtimes())
    entrants = [
        (each, objection_to(each, board) or _floor(bundle, each))
        for each in candidates(board, artifacts, backends)
    ]
    turn, turns = 0, len(entrants) * ROUNDS

    def next_turn(choice: Choice, number: int) -> None:
        nonlocal turn
        turn = max(turn + 1, number * len(entrants))
        tell(str(choice), turn, turns)

    measured = hold(
        path,
        state_dir,
        entrants,
        rounds=ROUNDS,
        seconds=seconds,
        cameras=cameras,
        ask=ask,
        heat=hottest_c,
        tell=next_turn,
    )
    best = choose(measured)
    tuning = Tuning(
        model=f"{bundle.manifest.name} {bundle.manifest.version}",
        artifacts=hashes(artifacts),
        device=Device.of(board, usable_backends(board, find_runtimes())),
        time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        rounds=ROUNDS,
        measured=measured,
        chosen=best.choice if best else None,
        cameras=cameras,
        absent=absent(artifacts, backends),
        notes=tuple(filter(None, [slower_int8(best, measured) if best else None, _slowed()])),
    )
    return tuning, write_tuning(state_dir, tuning) if best else None


def hottest_c() -> float | None:
    """Return the temperature of the device's hottest zone, C; None where none tells."""
    return max((zone.temperature_c for zone in read_zones() if zone.temperature_c is not None), default=None)


def _floor(bundle: Bundle, choice: Choice) -> str:
    artifact = next(each for each in bundle.manifest.artifact if each.file == choice.artifact)
    try:
        bundle.check_floor(artifact)
    except BadData as error:
        return str(error)
    return ""


def _slowed() -> str:
    slowed = read_throttling().slowed
    return f"the device slows itself down now ({', '.join(slowed)}): cool it and tune again" if slowed else ""
