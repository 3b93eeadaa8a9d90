"""How long `edge-agent run` takes to end after SIGTERM, at any moment of its life and with the broker gone too.

    python -m tests.bench stop [--runs 50] [--json FILE]

The real program watches the sample clip at its own pace and reports to a real mosquitto. SIGTERM comes at a random
moment: in one run of five within a second after exec (Python is still loading then, and a signal simply ends it),
else up to 5 s after the agent's first word. One run in three finds no broker, one in
three loses it just before the signal. All runs share a state directory; in the end one more delivers what is left,
and an independent subscriber must have every committed event, once and in order.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.starter import sample_clip
from tests.e2e.brokers import wait_for
from tests.faults.lab import ROOT, lab

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.lab import Lab
    from tests.faults.oracle import Verdict

BROKER = ("there", "never there", "goes")
_EARLY_EVERY, _EARLY_S = 5, 1.0
_LAST_S = 5.0
_LIMIT_S = 180.0


@dataclass(frozen=True)
class Stop:
    """One run: when the signal came (`early`: after exec, else after the agent's first word), and what it did."""

    early: bool
    after_s: float
    broker: str
    took_s: float
    code: int


def measure(folder: Path, *, runs: int, seed: int = 1) -> tuple[list[Stop], Verdict]:
    """Run the agent `runs` times; return how each ended, and what became of all events."""
    dice = random.Random(seed)
    with lab(folder) as made:
        stops = [
            _stop_once(made, dice, BROKER[n % len(BROKER)], early=n % _EARLY_EVERY == 4) for n in range(runs)
        ]
        with _agent(made) as last:  # delivers what the runs before have left
            _wait_first_word(made, last)
            time.sleep(_LAST_S)
            last.send_signal(signal.SIGTERM)
            if (code := last.wait(_LIMIT_S)) != 0:
                raise RuntimeError(f"the last run ended with {code}")
        made.read_file()
        return stops, made.judge()


def _stop_once(made: Lab, dice: random.Random, broker: str, *, early: bool) -> Stop:
    if broker == "never there":
        made.broker.terminate()
    with _agent(made) as agent:
        if not early:
            _wait_first_word(made, agent)
        after_s = dice.uniform(0, _EARLY_S if early else _LAST_S)
        time.sleep(after_s)
        if broker == "goes":
            made.broker.terminate()
        begin_s = time.monotonic()
        agent.send_signal(signal.SIGTERM)
        code = agent.wait(_LIMIT_S)
        took_s = time.monotonic() - begin_s
    if broker != "there":
        made.broker.start()
    made.read_file()
    return Stop(early, after_s, broker, took_s, code)


def _wait_first_word(made: Lab, agent: subprocess.Popen[bytes]) -> None:
    wait_for(lambda: made.log.stat().st_size or agent.poll() is not None, _LIMIT_S, "the agent's first word")


@contextlib.contextmanager
def _agent(made: Lab) -> Iterator[subprocess.Popen[bytes]]:
    """Run `edge-agent run` on the sample clip, for the broker of the lab."""
    url = f"mqtt://127.0.0.1:{made.broker.port}"
    command = [
        "--source",
        str(sample_clip()),
        "--broker",
        url,
        "--device",
        "stop",
        "--state",
        str(made.state),
    ]
    run = [sys.executable, "-m", "agent", "run", *command, "--threads", "1", "-v"]
    with made.log.open("wb") as log:
        process = subprocess.Popen(run, cwd=ROOT, stderr=log, stdout=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def figures(stops: list[Stop], verdict: Verdict) -> dict[str, Any]:
    """Return times by how the broker was (seconds), exit codes, and the verdict."""
    kinds = {kind: [stop for stop in stops if stop.broker == kind] for kind in BROKER}
    times = {
        kind: {
            "runs": len(of),
            **{f"p{p}_s": float(np.percentile([s.took_s for s in of], p)) for p in (50, 99)},
        }
        for kind, of in {"all": stops, **kinds}.items()
        if of
    }
    codes = {kind: dict(Counter(str(stop.code) for stop in of)) for kind, of in kinds.items()}
    return {
        "times": times,
        "exit_codes": codes,
        "verdict": verdict.as_dict(),
        "runs": list(map(asdict, stops)),
    }


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edge-agent-stop-") as folder:
        told = figures(*measure(Path(folder), runs=args.runs, seed=args.seed))
    print(f"{'broker':12} {'runs':>4} {'p50_s':>6} {'p99_s':>6}   exit codes")
    for kind, row in told["times"].items():
        codes = " ".join(f"{code}: {n}" for code, n in told["exit_codes"].get(kind, {}).items())
        print(f"{kind:12} {row['runs']:4} {row['p50_s']:6.2f} {row['p99_s']:6.2f}   {codes}")
    verdict = told["verdict"]
    print(
        f"{verdict['committed']} events committed, {verdict['lost']} lost, {verdict['inversions']} out of order"
    )
    if args.json:
        args.json.write_text(json.dumps(told, indent=2) + "\n")
    return 0 if verdict["sound"] else 1


if __name__ == "__main__":
    sys.exit(main())
