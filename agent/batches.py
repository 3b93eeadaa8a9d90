"""Running the network on the frames that are ready: one by one, or several at once where the engine can."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.backends import BatchEngine

if TYPE_CHECKING:
    from queue import SimpleQueue

    from agent.backends import Engine
    from agent.lanes import Job


def batch_of(engine: Engine) -> int:
    """Return how many frames `engine` takes at once."""
    return engine.batch if isinstance(engine, BatchEngine) else 1


def take_ready(inbox: SimpleQueue[Job | None], most: int) -> list[Job]:
    """Take up to `most` jobs from `inbox` without waiting; None, the end of it, stays there."""
    jobs: list[Job] = []
    while len(jobs) < most and not inbox.empty():
        job = inbox.get()
        if job is None:
            inbox.put(None)
            break
        jobs.append(job)
    return jobs


def run_jobs(engine: Engine, jobs: list[Job]) -> None:
    """Run `engine` once for all `jobs`, at most its batch, and set their outputs, or the fault of all."""
    tensors = [job.prepared.tensor for job in jobs]
    try:
        if len(jobs) > 1 and isinstance(engine, BatchEngine):
            results = engine.infer_batch(tensors)
        else:
            results = [engine.infer(tensor) for tensor in tensors]
    except Exception as fault:  # noqa: BLE001  the loop raises it again
        for job in jobs:
            job.fault = fault
        return
    for job, outputs in zip(jobs, results, strict=True):
        job.outputs = outputs
