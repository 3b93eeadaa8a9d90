"""Person AP at IoU 0.5 of the whole path, against the ground truth of PETS09-S2L1.

    python tests/bench/accuracy.py ../shared [MODEL ...]

Runs `edge-agent run --pace fastest --detections` on the clip for each model, on every fifth frame, and scores
the lines with ../shared/eval/ap50.py. "bare" is what the same network reaches with a reference preprocessing
and decoder.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from agent.starter import PEOPLE, STARTER, shipped_bundle

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Case:
    """A model: its manifest in models/known and its file, or a shipped bundle; bare figure and floor."""

    manifest: str
    artifact: str | None
    bare: float | None
    floor: float


CASES = {
    "ti-lite-320-int8": Case("yolox-nano-ti-lite-320-int8", "yolox_nano_ti_lite_320_int8.tflite", 87.7, 86.5),
    f"{STARTER}-int8": Case(STARTER, None, None, 82.5),
    f"{PEOPLE}-int8": Case(PEOPLE, None, None, 61.5),
    "coco-ssd-v1-int8": Case("coco-ssd-mobilenet-v1", "coco_ssd_mobilenet_v1_quant_300.tflite", 51.7, 50.5),
    "centernet-512-fp16": Case("centernet-mbv3-512", "centernet_mbv3_512_fp16.tflite", 87.3, 86.0),
}


def edge_agent(*args: object) -> None:
    """Run the command; what it says on standard error is the error."""
    done = subprocess.run(
        [sys.executable, "-m", "agent", *map(str, args)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"exit {done.returncode}: {done.stderr}")


def person_ap50(case: Case, shared: Path, scratch: Path) -> float:
    """Return the AP in percent of `case`, with the files of `shared`, working in `scratch`."""
    if case.artifact is None:
        bundle = shipped_bundle(case.manifest)
    else:
        bundle = scratch / "bundle"
        manifest = ROOT / "models" / "known" / f"{case.manifest}.toml"
        artifact = shared / "data" / "models" / case.artifact
        edge_agent("model", "add", "--manifest", manifest, "--artifact", artifact, "--out", bundle)
    detections = scratch / "detections.jsonl"
    clip = shared / "data" / "video" / "vtest_pets09_s2l1.avi"
    options = ["--pace", "fastest", "--sample", "interval:5", "--threads", 2, "--state", scratch / "state"]
    edge_agent(
        "run", "--source", clip, "--model", bundle, "--detections", detections,
        "--sink", scratch / "events.jsonl", *options,
    )  # fmt: skip
    truth = shared / "data" / "video" / "gt" / "PETS09-S2L1.gt.txt"
    scored = subprocess.run(
        [sys.executable, shared / "eval" / "ap50.py", detections, truth, "768", "576", "5"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(scored.stdout)


def main() -> None:
    """Print the table."""
    shared = Path(sys.argv[1]).resolve()
    names = sys.argv[2:] or list(CASES)
    print(f"{'model':26} {'AP50':>5} {'bare':>5} {'floor':>5}")
    for name in names:
        with tempfile.TemporaryDirectory() as scratch:
            case = CASES[name]
            got = person_ap50(case, shared, Path(scratch))
            print(f"{name:26} {got:5.1f} {case.bare or '-':>5} {case.floor:5.1f}")


if __name__ == "__main__":
    main()
