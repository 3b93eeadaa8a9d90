"""What a bundle was found to be worth, the floor it is held against, and its manifest brought up to date."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from agent.bundle import MANIFEST, Accuracy
from agent.bundle.manifest import dump_manifest
from agent.errors import AgentError, UsageError
from agent.wholefile import write_whole
from calibration.bootstrap import Figure  # noqa: TC001 - msgspec reads the annotations

if TYPE_CHECKING:
    from agent.bundle import Bundle

State = Literal["reference", "passed", "below", "unmeasured", "broken"]
DEFAULT_FLOOR = 0.90
"""Of agreement with the reference, where the manifest has no floor; see README for what it tells apart."""
IN_MANIFEST = {"agreement": "agreement_ap50", "top1_agreement": "top1"}
"""The manifest's words for figures that are called otherwise here; its `agreement_ap50` is from before F1 counted."""
_DIGITS = 4
EXIT_PASSED, EXIT_FAULT, EXIT_UNMEASURED = 0, 1, 3


class Unmeasured(AgentError):
    """There is too little to say anything about accuracy, good or bad."""

    exit_code = EXIT_UNMEASURED


class Verdict(msgspec.Struct, frozen=True):
    """What one artifact came to. `value` is the figure that is held against the floor; `reason` why not passed."""

    file: str
    format: str
    precision: str
    backend: str | None
    state: State
    value: float | None = None
    reason: str = ""
    figures: dict[str, Figure] = {}


class Verification(msgspec.Struct, frozen=True):
    """What a bundle came to. `skipped` are files that gave no frame, and why."""

    model: str
    version: int
    metric: str
    floor: float
    reference: str | None
    frames: int
    clips: int
    artifacts: tuple[Verdict, ...]
    skipped: dict[str, str] = {}

    @property
    def state(self) -> Literal["passed", "fault", "unmeasured"]:
        """The worst of all artifacts; what is unmeasured is no fault, and no pass."""
        states = {verdict.state for verdict in self.artifacts}
        if states & {"below", "broken"}:
            return "fault"
        return "unmeasured" if "unmeasured" in states or states == {"reference"} else "passed"

    @property
    def exit_code(self) -> int:
        """0 passed, 1 fault, 3 unmeasured."""
        return {"passed": EXIT_PASSED, "fault": EXIT_FAULT, "unmeasured": EXIT_UNMEASURED}[self.state]


def held_to(bundle: Bundle, *, judged: bool, labels: bool, floor: float | None) -> tuple[str, float | None]:
    """Return the figure that decides and its floor, as rounded as its value will be; None where there is none.

    `judged` says that there is a reference. A classifier must agree with it; without one, its accuracy on
    `labels` counts. A detector must agree with it too, unless its manifest's metric is "map". `floor` replaces
    the manifest's, where 0 says that it has none; agreement then has DEFAULT_FLOOR.
    """
    accuracy = bundle.manifest.accuracy
    if accuracy.metric == "map":
        metric = "map"
    elif bundle.manifest.task == "classify":
        metric = "top1" if labels and not judged else "top1_agreement"
    else:
        metric = "agreement"
    default = None if metric in ("map", "top1") else DEFAULT_FLOOR
    least = (accuracy.floor or default) if floor is None else floor
    return metric, None if least is None else rounded(least)


def rounded(value: float) -> float:
    """Return a figure or floor as a manifest keeps it: rounded before they are compared, one never contradicts."""
    return round(value, _DIGITS)


def check_may_change(bundle: Bundle) -> None:
    """Raise UsageError for a bundle whose manifest must not change."""
    if bundle.origin.kind != "unsigned":
        fix = "make a copy without model.toml.minisig, update that and sign it"
        raise UsageError("--update would break the bundle's origin", seen=bundle.origin.text, fix=fix)


def update(bundle: Bundle, verification: Verification) -> None:
    """Write what was measured into the manifest of `bundle`: values, floor, state.

    Raises UsageError for a bundle whose manifest must not change, CannotCreate.
    """
    check_may_change(bundle)
    values = {verdict.file: verdict.value for verdict in verification.artifacts}
    artifacts = tuple(
        msgspec.structs.replace(each, value=values[each.file]) for each in bundle.manifest.artifact
    )
    measured = any(value is not None for value in values.values())
    accuracy = msgspec.convert(
        {
            "metric": IN_MANIFEST.get(verification.metric, verification.metric),
            "floor": verification.floor,
            "state": "measured" if measured else "unmeasured",
        },
        Accuracy,
    )
    changed = msgspec.structs.replace(bundle.manifest, accuracy=accuracy, artifact=artifacts)
    write_whole(bundle.path / MANIFEST, dump_manifest(changed))


def complete(found: Verification, skipped: dict[str, str]) -> Verification:
    """Return `found` with the files that gave no frame."""
    return msgspec.structs.replace(found, skipped=skipped)


def as_json(found: Verification) -> str:
    """Return `found` as one JSON document, with its state."""
    document = {"state": found.state, **msgspec.to_builtins(found)}
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()
