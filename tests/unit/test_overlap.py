"""The inference loop: order, overlap, freshness and faults, with an engine the tests hold by the hand."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agent.errors import BadData
from agent.mailbox import Mailbox
from agent.messages import Geometry, ModelInput
from agent.overlap import Overlap
from tests import doubles
from tests.doubles.networks import two_outputs
from tests.e2e.brokers import wait_for
from tests.patience import HANGS_S

WHOLE = Geometry(1, 1, 0, 0)


def frame(seq: int) -> Any:
    return SimpleNamespace(seq=seq, camera="c")


class HeldEngine:
    """An engine whose inferences end when the test says so."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.running = threading.Semaphore(0)
        self.permits = threading.Semaphore(0)

    def infer(self, tensor: Any) -> tuple[Any, ...]:
        self.started.append(int(tensor[0]))
        self.running.release()
        assert self.permits.acquire(timeout=HANGS_S)
        return (tensor,)


class Recorder:
    """Stages that only note what they are given."""

    def __init__(self) -> None:
        self.prepared: list[int] = []
        self.finished: list[int] = []
        self.any_prepared = threading.Semaphore(0)

    def prepare(self, given: Any) -> ModelInput:
        self.prepared.append(given.seq)
        self.any_prepared.release()
        return ModelInput(np.array([given.seq]), WHOLE)

    def finish(self, given: Any, geometry: Geometry, outputs: Any) -> None:
        assert int(outputs[0][0]) == given.seq, "outputs belong to another frame"
        self.finished.append(given.seq)


def start(overlap: Overlap) -> threading.Thread:
    thread = threading.Thread(target=overlap.run, daemon=True)
    thread.start()
    return thread


def test_fastest_takes_every_frame_in_order() -> None:
    """With a blocking mailbox each frame is inferred once, in order, with its own outputs."""
    bell, engine, stages = threading.Condition(), HeldEngine(), Recorder()
    mailbox = Mailbox(bell, blocking=True)
    engine.permits.release(100)
    thread = start(Overlap([(mailbox, stages)], engine, bell, eager=True))
    for seq in range(100):
        mailbox.put(frame(seq))
    mailbox.close()
    thread.join(HANGS_S)
    assert stages.finished == list(range(100))


def test_the_next_frame_is_prepared_while_the_network_runs() -> None:
    """At full speed the next frames are ready before the first inference has ended, and no fourth is taken."""
    bell, engine, stages = threading.Condition(), HeldEngine(), Recorder()
    mailbox = Mailbox(bell, blocking=True)
    thread = start(Overlap([(mailbox, stages)], engine, bell, eager=True))
    for seq in range(4):
        mailbox.put(frame(seq))
    for _ in range(3):
        assert stages.any_prepared.acquire(timeout=HANGS_S)
    assert mailbox.full
    assert stages.prepared == [0, 1, 2]
    assert stages.finished == []
    engine.permits.release(4)
    mailbox.close()
    thread.join(HANGS_S)
    assert stages.finished == [0, 1, 2, 3]


def test_a_live_engine_gets_the_newest_frame() -> None:
    """Frames that come while the engine is busy are replaced, and the last of them is inferred next."""
    now_s = [0.0]
    bell, engine, stages = threading.Condition(), HeldEngine(), Recorder()
    mailbox = Mailbox(bell)
    overlap = Overlap([(mailbox, stages)], engine, bell, eager=False, clock=lambda: now_s[0])
    overlap.times.infer_s = 1.0  # as measured before: the next frame is not needed for a second
    thread = start(overlap)
    mailbox.put(frame(0))
    assert engine.running.acquire(timeout=HANGS_S)
    for seq in range(1, 6):
        mailbox.put(frame(seq))
    now_s[0] = 0.999
    with bell:
        bell.notify_all()
    assert stages.any_prepared.acquire(timeout=HANGS_S)
    assert stages.any_prepared.acquire(timeout=HANGS_S)
    assert stages.prepared == [0, 5]
    assert mailbox.replaced == 4
    engine.permits.release(2)
    mailbox.close()
    thread.join(HANGS_S)
    assert stages.finished == [0, 5]


def test_who_waits_says_so_and_who_works_says_what() -> None:
    """While the network runs, that is all that is noted; without a frame nothing is, for as long as it takes."""
    bell, engine, stages = threading.Condition(), HeldEngine(), Recorder()
    mailbox = Mailbox(bell)
    overlap = Overlap([(mailbox, stages)], engine, bell, eager=False)
    thread = start(overlap)
    mailbox.put(frame(0))
    assert engine.running.acquire(timeout=HANGS_S)
    begun = overlap.engine_beat.read("engine")
    assert (begun.call, begun.since_s > 0) == ("infer", True)
    wait_for(lambda: overlap.loop_beat.read("loop").call == "", HANGS_S, "the loop to wait")
    engine.permits.release()
    wait_for(lambda: stages.finished == [0], HANGS_S, "the result")
    wait_for(lambda: overlap.loop_beat.read("loop").call == "", HANGS_S, "the loop to wait")
    assert overlap.engine_beat.read("engine").call == ""
    mailbox.close()
    thread.join(HANGS_S)


def test_an_engine_that_had_to_wait_is_served_earlier() -> None:
    """A frame that was there and not ready in time widens the margin; engines that never wait narrow it again."""
    bell, engine, stages = threading.Condition(), HeldEngine(), Recorder()
    mailbox = Mailbox(bell)
    overlap = Overlap([(mailbox, stages)], engine, bell, eager=False, clock=lambda: 0.0)
    overlap.times.infer_s = 1.0
    mailbox.put(frame(0))
    before_s = overlap._margin_s
    overlap._adjust_margin()
    assert overlap._margin_s > before_s
    for _ in range(100):
        overlap._adjust_margin()
    assert overlap._margin_s == 0.5, "half an inference at most"
    overlap._inbox.put(None)
    for _ in range(1000):
        overlap._adjust_margin()
    assert 0 < overlap._margin_s <= before_s
    mailbox.take()
    overlap._inbox.get()
    now_s = overlap._margin_s
    overlap._adjust_margin()
    assert overlap._margin_s == now_s, "without a frame nothing is to learn"


def test_a_lone_frame_is_finished_without_waiting_for_the_next() -> None:
    """On a slow camera a result is used as soon as it is there."""
    bell, engine, stages = threading.Condition(), HeldEngine(), Recorder()
    done = threading.Event()
    stages.finish = lambda *_: done.set()  # type: ignore[method-assign,assignment]
    mailbox = Mailbox(bell)
    thread = start(Overlap([(mailbox, stages)], engine, bell, eager=False))
    mailbox.put(frame(0))
    engine.permits.release()
    assert done.wait(HANGS_S)
    mailbox.close()
    thread.join(HANGS_S)
    assert not thread.is_alive()


def test_cameras_take_turns() -> None:
    """A camera that always has a frame does not starve the other."""
    bell, engine = threading.Condition(), HeldEngine()
    greedy, modest = Recorder(), Recorder()
    boxes = [Mailbox(bell, blocking=True), Mailbox(bell, blocking=True)]
    overlap = Overlap([(boxes[0], greedy), (boxes[1], modest)], engine, bell, eager=True)
    boxes[0].put(frame(0))
    boxes[1].put(frame(1))
    thread = start(overlap)
    assert greedy.any_prepared.acquire(timeout=HANGS_S)
    boxes[0].put(frame(2))
    engine.permits.release(10)
    for box in boxes:
        box.close()
    thread.join(HANGS_S)
    assert engine.started == [0, 1, 2]


def test_who_was_served_longest_ago_comes_first() -> None:
    """A camera that was without a frame for a while does not lose its turn to one that always has some."""
    bell, engine = threading.Condition(), HeldEngine()
    stages = Recorder()
    boxes = [Mailbox(bell), Mailbox(bell), Mailbox(bell)]
    overlap = Overlap([(box, stages) for box in boxes], engine, bell, eager=True)
    boxes[0].put(frame(0))
    boxes[1].put(frame(1))
    thread = start(overlap)
    for _ in range(2):
        assert stages.any_prepared.acquire(timeout=HANGS_S)
    boxes[0].put(frame(10))
    assert stages.any_prepared.acquire(timeout=HANGS_S)
    boxes[0].put(frame(20))  # no room for a fourth in work: these three wait
    boxes[1].put(frame(11))
    boxes[2].put(frame(2))
    engine.permits.release(10)
    for box in boxes:
        box.close()
    thread.join(HANGS_S)
    assert engine.started == [0, 1, 10, 2, 11, 20]


def test_cameras_come_and_go_while_it_runs() -> None:
    """One is added to an idle loop, leaves when its mailbox is finished, and the loop stays for the next."""
    bell, engine, stages = threading.Condition(), HeldEngine(), Recorder()
    engine.permits.release(10)
    overlap = Overlap([], engine, bell, eager=False, stay=True)
    thread = start(overlap)
    for seq in range(2):
        mailbox = Mailbox(bell)
        lane = overlap.add(mailbox, stages)
        mailbox.put(frame(seq))
        mailbox.close()
        assert lane.done.wait(HANGS_S)
        assert stages.finished[-1] == seq
        assert overlap.lanes == 0
    assert thread.is_alive()
    overlap.close()
    thread.join(HANGS_S)
    assert not thread.is_alive()


def test_a_camera_whose_pictures_are_no_good_leaves_the_others_alone() -> None:
    """Its source is told, its frame is gone, and the other camera's are inferred."""

    class Refusing(Recorder):
        def prepare(self, given: Any) -> ModelInput:
            raise BadData("no good")

    bell, engine, good = threading.Condition(), HeldEngine(), Recorder()
    engine.permits.release(10)
    boxes = [Mailbox(bell), Mailbox(bell)]
    overlap = Overlap([(boxes[0], Refusing()), (boxes[1], good)], engine, bell, eager=False)
    boxes[0].put(frame(0))
    boxes[1].put(frame(1))
    boxes[1].close()
    thread = start(overlap)
    with bell:
        assert bell.wait_for(lambda: not boxes[0].full and boxes[1].finished, HANGS_S)
    with pytest.raises(BadData):
        boxes[0].put(frame(2))
    boxes[0].close()
    thread.join(HANGS_S)
    assert good.finished == [1]


def test_what_the_engine_raises_comes_out_of_run() -> None:
    """A fault of the engine ends the loop and is not swallowed."""

    class Broken:
        def infer(self, tensor: Any) -> Any:
            raise RuntimeError("broken")

    bell = threading.Condition()
    mailbox = Mailbox(bell)
    mailbox.put(frame(0))
    with pytest.raises(RuntimeError, match="broken"):
        Overlap([(mailbox, Recorder())], Broken(), bell, eager=False).run()  # type: ignore[arg-type]


def test_after_a_fault_nobody_waits_for_the_engine() -> None:
    """Lanes are done and mailboxes closed: neither capture nor whoever stops the cameras hangs."""

    class Broken:
        def infer(self, tensor: Any) -> Any:
            raise RuntimeError("broken")

    bell = threading.Condition()
    mailbox = Mailbox(bell, blocking=True)
    overlap = Overlap([], Broken(), bell, eager=True, stay=True)  # type: ignore[arg-type]
    lane = overlap.add(mailbox, Recorder())
    mailbox.put(frame(0))
    with pytest.raises(RuntimeError, match="broken"):
        overlap.run()
    assert lane.done.is_set()
    mailbox.put(frame(1))
    mailbox.put(frame(2))


def test_a_camera_leaves_a_loop_that_never_rests() -> None:
    """Where frames always wait, one that is finished is let go all the same."""

    class Endless(Mailbox):
        full, finished = True, False  # type: ignore[assignment]

        def take(self) -> Any:
            return frame(0)

    bell, engine, stages = threading.Condition(), HeldEngine(), Recorder()
    engine.permits.release(1 << 20)
    overlap = Overlap([(Endless(bell), stages)], engine, bell, eager=True, stay=True)
    lane = overlap.add(Mailbox(bell), stages)
    lane.mailbox.close()
    for _ in range(20):
        overlap._step()
        if overlap._jobs:
            overlap._jobs[0].outputs = (np.array([0]),)
    assert lane.done.is_set()


def test_after_idle_the_second_frame_waits_for_its_time() -> None:
    """The engine's thread need not have begun for the next frame to be taken late enough."""
    bell, stages = threading.Condition(), Recorder()
    boxes = [Mailbox(bell), Mailbox(bell)]
    overlap = Overlap([(box, stages) for box in boxes], HeldEngine(), bell, eager=False, clock=lambda: 100.0)
    overlap.times.infer_s = 1.0
    for box in boxes:
        box.put(frame(0))
    assert overlap._prepare_next()
    assert not overlap._prepare_next(), "99 inferences too early"


def test_a_camera_added_after_the_end_is_done_at_once() -> None:
    """Nobody waits for an engine that is no more."""
    bell = threading.Condition()
    overlap = Overlap([], HeldEngine(), bell, eager=False)
    overlap.run()
    mailbox = Mailbox(bell, blocking=True)
    assert overlap.add(mailbox, Recorder()).done.is_set()
    mailbox.put(frame(0))
    mailbox.put(frame(1))


class BatchingEngine(HeldEngine):
    """A held engine that takes up to three frames in one run."""

    batch = 3
    input = outputs = info = None

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[int]] = []

    def infer(self, tensor: Any) -> tuple[Any, ...]:
        return self.infer_batch([tensor])[0]

    def infer_batch(self, tensors: Any) -> list[tuple[Any, ...]]:
        self.batches.append([int(tensor[0]) for tensor in tensors])
        self.running.release()
        assert self.permits.acquire(timeout=HANGS_S)
        return [(tensor,) for tensor in tensors]

    def lend(self) -> Any:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is held."""


def cameras(count: int, bell: threading.Condition, **more: Any) -> list[tuple[Mailbox, Recorder]]:
    return [(Mailbox(bell, **more), Recorder()) for _ in range(count)]


@pytest.mark.parametrize("eager", [False, True])
def test_what_waits_of_several_cameras_is_one_batch(eager: bool) -> None:
    """While the network runs a frame of each camera is prepared; the next run takes all of them, up to its batch."""
    bell, engine = threading.Condition(), BatchingEngine()
    lanes = cameras(4, bell)
    overlap = Overlap(lanes, engine, bell, eager=eager, clock=lambda: 100.0)
    thread = start(overlap)
    lanes[0][0].put(frame(0))
    assert engine.running.acquire(timeout=HANGS_S)
    for seq, (mailbox, stages) in enumerate(lanes[1:], 1):
        mailbox.put(frame(seq))
        assert stages.any_prepared.acquire(timeout=HANGS_S)
    engine.permits.release(3)
    for mailbox, _ in lanes:
        mailbox.close()
    thread.join(HANGS_S)
    assert engine.batches == [[0], [1, 2, 3]]
    assert [stages.finished for _, stages in lanes] == [[0], [1], [2], [3]]


def test_a_batch_never_makes_a_camera_older() -> None:
    """One frame of a camera waits behind the network, however large the batch: newer ones replace each other."""
    bell, engine = threading.Condition(), BatchingEngine()
    ((mailbox, stages),) = cameras(1, bell)
    thread = start(Overlap([(mailbox, stages)], engine, bell, eager=False, clock=lambda: 100.0))
    mailbox.put(frame(0))
    assert engine.running.acquire(timeout=HANGS_S)
    mailbox.put(frame(1))
    assert stages.any_prepared.acquire(timeout=HANGS_S)
    assert stages.any_prepared.acquire(timeout=HANGS_S)
    for seq in (2, 3, 4):
        mailbox.put(frame(seq))
    engine.permits.release(3)
    mailbox.close()
    thread.join(HANGS_S)
    assert engine.batches == [[0], [1], [4]]
    assert mailbox.replaced == 2


def test_every_frame_of_a_blocking_source_is_in_one_batch_only() -> None:
    """At full speed, with any number of cameras, each frame is inferred once and finished in order."""
    bell, engine = threading.Condition(), BatchingEngine()
    lanes = cameras(3, bell, blocking=True)
    engine.permits.release(1000)
    thread = start(Overlap(lanes, engine, bell, eager=True))
    for seq in range(50):
        for mailbox, _ in lanes:
            mailbox.put(frame(seq))
    for mailbox, _ in lanes:
        mailbox.close()
    thread.join(HANGS_S)
    assert [stages.finished for _, stages in lanes] == [list(range(50))] * 3
    assert sum(map(len, engine.batches)) == 150
    assert max(map(len, engine.batches)) <= engine.batch


def test_a_fault_of_a_batch_ends_the_run() -> None:
    """As that of one frame does."""
    bell, engine = threading.Condition(), BatchingEngine()

    def fail(tensors: Any) -> Any:
        raise BadData("the GPU is gone")

    engine.infer_batch = fail  # type: ignore[method-assign]
    lanes = cameras(2, bell)
    overlap = Overlap(lanes, engine, bell, eager=False)
    for mailbox, _ in lanes:
        mailbox.put(frame(0))
    with pytest.raises(BadData, match="the GPU is gone"):
        overlap.run()


def test_an_engine_is_exchanged_between_two_frames() -> None:
    """What is in work is finished with the old one; then `swap` is called; the next frame gets the new one."""
    bell, old, new = threading.Condition(), HeldEngine(), BatchingEngine()
    mailbox, stages = Mailbox(bell, blocking=True), Recorder()
    overlap = Overlap([(mailbox, stages)], old, bell, eager=True)
    thread = start(overlap)
    mailbox.put(frame(0))
    assert old.running.acquire(timeout=HANGS_S)
    at_swap: list[list[int]] = []
    overlap.exchange(new, lambda: at_swap.append([*stages.finished]))
    mailbox.put(frame(1))
    old.permits.release(10)
    new.permits.release(10)
    mailbox.put(frame(2))
    mailbox.close()
    thread.join(HANGS_S)
    assert at_swap == [old.started]
    assert sorted([*old.started, *(seq for batch in new.batches for seq in batch)]) == [0, 1, 2]
    assert stages.finished == [0, 1, 2]
    assert new.batches


def test_an_engine_that_never_had_its_turn_comes_back() -> None:
    """Of two that come while a frame is in work the second runs; the first, and one after the end, are the caller's."""
    bell, old, first, second = threading.Condition(), HeldEngine(), HeldEngine(), HeldEngine()
    mailbox, stages = Mailbox(bell, blocking=True), Recorder()
    overlap = Overlap([(mailbox, stages)], old, bell, eager=True)
    thread = start(overlap)
    mailbox.put(frame(0))
    assert old.running.acquire(timeout=HANGS_S)
    swapped: list[HeldEngine] = []
    assert overlap.exchange(first, lambda: swapped.append(first)) is None
    assert overlap.exchange(second, lambda: swapped.append(second)) is first
    assert overlap.coming is second
    mailbox.put(frame(1))
    old.permits.release()
    second.permits.release()
    mailbox.close()
    thread.join(HANGS_S)
    assert (swapped, second.started, overlap.coming) == ([second], [1], None)
    assert overlap.exchange(first, lambda: None) is first


def test_four_cameras_that_wait_are_one_batch_of_tensorrt() -> None:
    """Over its double, by a real network: each camera gets what the network makes of its own picture."""
    with doubles.present() as gpu:
        from agent.backends.tensorrt import TensorRTEngine, build_engine, load_tensorrt

        built = build_engine(load_tensorrt(), two_outputs(batch="n"), workspace_bytes=1 << 20, batch=4)
        engine = TensorRTEngine(built.plan, precision="fp32", outputs=built.outputs)
        bell = threading.Condition()
        lanes = [(Mailbox(bell), Doubled(engine)) for _ in range(4)]
        for number, (mailbox, _) in enumerate(lanes):
            mailbox.put(frame(number))
            mailbox.close()
        waits = gpu.counts["waits"]
        overlap = Overlap(lanes, engine, bell, eager=True)
        while overlap._unstarted() < 3 and overlap._prepare_next():
            pass  # the network has not begun: all four are ready before it
        overlap.run()
        assert gpu.counts["waits"] - waits == 1
        assert [stages.seen for _, stages in lanes] == [[0.0], [2.0], [4.0], [6.0]]
        engine.close()


class Doubled:
    """Stages of a camera whose picture is full of its number; they note what the network makes of it."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.seen: list[float] = []

    def prepare(self, given: Any) -> ModelInput:
        tensor = self._engine.lend()
        tensor[...] = given.seq
        return ModelInput(tensor, WHOLE)

    def finish(self, given: Any, geometry: Geometry, outputs: Any) -> None:
        twice, mean = outputs
        assert (twice == 2 * given.seq).all()
        assert (mean == given.seq).all()
        self.seen.append(float(twice.flat[0]))
