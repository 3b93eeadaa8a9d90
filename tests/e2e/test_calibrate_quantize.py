"""The search for the best INT8 network, on a real one: a small classifier of people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from agent.backends import open_engine
from agent.errors import BadData, CannotCreate, InputMissing
from calibration.environments import Environment, environment
from calibration.quantize.calibrate import calibrate
from calibration.quantize.damage import outputs_of
from calibration.quantize.network import read_network
from calibration.quantize.ranges import choose
from calibration.quantize.search import search
from calibration.quantize.variants import Workshop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from calibration.quantize.curve import Curve

DATA = Path(__file__).parents[3] / "shared" / "data"
FLOAT = DATA / "models" / "vww_96_fp32.tflite"

pytestmark = [
    pytest.mark.skipif(not FLOAT.is_file(), reason="needs ../shared/data"),
    pytest.mark.long,
    pytest.mark.timeout(1800),  # the first run installs the quantizer
]


@pytest.fixture(scope="module")
def quantizer() -> Environment:
    return environment("quantizer")


@pytest.fixture(scope="module")
def inputs() -> list[np.ndarray]:
    """Smooth pictures of many brightnesses, 0..1: enough to tell a good range from a bad one."""
    rng = np.random.default_rng(7)
    coarse = rng.uniform(0, 1, (24, 6, 6, 3)) * rng.uniform(0.2, 1, (24, 1, 1, 1))
    return [np.kron(one, np.ones((16, 16, 1)))[None].astype(np.float32) for one in coarse]


@pytest.fixture(scope="module")
def closeness(inputs: list[np.ndarray]) -> Callable[[Path], float]:
    """Return a score: 1 less the mean difference of the probabilities, as a share of their spread."""
    wanted = np.array([one[0] for one in outputs_of(FLOAT, inputs)])

    def score(file: Path) -> float:
        got = np.array([one[0] for one in outputs_of(file, inputs)])
        return float(1 - np.abs(got - wanted).mean() / wanted.std())

    return score


def run(
    work: Path,
    inputs: list[np.ndarray],
    score: Callable[[Path], float],
    quantizer: Environment,
    floor: float = 0.9,
) -> Curve:
    statistics = calibrate(FLOAT, inputs, work, key="the same pictures")
    return search(
        FLOAT,
        statistics,
        score,
        floor=floor,
        probes=inputs[:4],
        work=work,
        environment=quantizer,
        input_range=(0.0, 1.0),
    )


@pytest.fixture(scope="module")
def curve(
    tmp_path_factory: pytest.TempPathFactory,
    inputs: list[np.ndarray],
    closeness: Callable[[Path], float],
    quantizer: Environment,
) -> Curve:
    return run(tmp_path_factory.mktemp("work"), inputs, closeness, quantizer)


def test_the_chosen_point_reaches_the_floor(curve: Curve) -> None:
    """It is as good as asked for and mostly INT8; plain INT8 is on the curve as the measure of the rest."""
    assert curve.point.accuracy >= 0.9
    assert curve.point.int8_macs > 0.5
    assert curve.points[0].label == "plain"
    assert curve.points[0].int8_macs == 1.0
    assert curve.chosen != 0
    assert len({point.file for point in curve.points}) == len(curve.points)


def test_every_layer_has_its_damage(curve: Curve) -> None:
    """All convolutions are listed, the worst first."""
    weighted = [operator.name for operator in read_network(FLOAT).operators if operator.weighted]
    assert sorted(layer.name for layer in curve.layers) == sorted(weighted)
    damages = [layer.damage for layer in curve.layers]
    assert damages == sorted(damages, reverse=True)
    assert min(damages) >= 0


def test_the_network_takes_int8_and_runs_in_xnnpack(curve: Curve) -> None:
    """Its input is INT8 over the whole range a picture has, its outputs are float, and it is delegated."""
    engine = open_engine(curve.point.file, precision="int8", threads=1)
    try:
        assert engine.input.dtype == np.int8
        assert engine.input.scale == pytest.approx(1 / 255, rel=1e-3)
        assert [one.dtype for one in engine.outputs] == [np.float32]
        assert engine.info.delegated_nodes >= 1
    finally:
        engine.close()


def test_a_second_search_goes_on_where_the_first_was(
    curve: Curve, inputs: list[np.ndarray], quantizer: Environment
) -> None:
    """In the same folder nothing is calibrated, made or scored again."""
    work = curve.point.file.parent
    made = {file: file.stat().st_mtime_ns for file in work.iterdir()}

    def never(file: Path) -> float:
        raise AssertionError(f"{file} was scored before")

    class Unused(list[np.ndarray]):
        def __iter__(self) -> Iterator[np.ndarray]:
            raise AssertionError("the calibration pass was done before")

        def __getitem__(self, _: object) -> list[np.ndarray]:  # type: ignore[override]
            return inputs[:4]

    again = run(work, Unused(), never, quantizer)
    assert again == curve
    assert {file: file.stat().st_mtime_ns for file in work.iterdir()} == made


def test_the_same_pictures_give_the_same_network(
    curve: Curve,
    inputs: list[np.ndarray],
    closeness: Callable[[Path], float],
    quantizer: Environment,
    tmp_path: Path,
) -> None:
    """A search from nothing chooses the same bytes."""
    other = run(tmp_path, inputs, closeness, quantizer)
    assert other.point.file.read_bytes() == curve.point.file.read_bytes()


def test_a_floor_out_of_reach_gives_the_best_there_is(
    curve: Curve, inputs: list[np.ndarray], closeness: Callable[[Path], float], quantizer: Environment
) -> None:
    """The caller sees by its accuracy that it is below."""
    best = run(curve.point.file.parent, inputs, closeness, quantizer, floor=1.1)
    assert best.point.accuracy == max(point.accuracy for point in best.points[1:]) < 1.1


def test_an_operator_left_in_float_stays_float(
    curve: Curve, inputs: list[np.ndarray], quantizer: Environment, tmp_path: Path
) -> None:
    """With every operator in float the outputs are those of the float network."""
    network = read_network(FLOAT)
    statistics = calibrate(FLOAT, (), curve.point.file.parent, key="the same pictures")
    every = tuple(operator.name for operator in network.operators)
    ranges = choose(network, statistics, "minmax", input_range=(0.0, 1.0))
    [file] = Workshop(FLOAT, ranges, tmp_path, quantizer).make([every])
    for wanted, got in zip(outputs_of(FLOAT, inputs), outputs_of(file, inputs), strict=True):
        assert got[0] == pytest.approx(wanted[0], abs=0.02)


def test_a_network_that_fails_leaves_nothing(tmp_path: Path, quantizer: Environment) -> None:
    """The quantizer's own words come back as one line, and no file is left."""
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"\x00\x00\x00\x00TFL3" + b"\xff" * 64)
    with pytest.raises(BadData) as caught:
        Workshop(broken, {}, tmp_path / "work", quantizer, bounded=False).make([()])
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "work").glob("*"))


def test_what_is_no_float_network_is_refused(tmp_path: Path) -> None:
    """A quantized model, another file and no file each have their own words."""
    with pytest.raises(BadData, match="quantized already"):
        read_network(DATA / "models" / "vww_96_int8.tflite")
    text = tmp_path / "text.tflite"
    text.write_text(json.dumps({"no": "network"}))
    with pytest.raises(BadData, match=r"is no \.tflite"):
        read_network(text)
    with pytest.raises(InputMissing):
        read_network(tmp_path / "missing.tflite")


def test_an_interrupted_pass_goes_on(inputs: list[np.ndarray], tmp_path: Path) -> None:
    """What was counted before the interruption is not counted again, and the end is that of a whole pass."""

    def interrupted() -> Iterator[np.ndarray]:
        yield from inputs[:22]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate(FLOAT, interrupted(), tmp_path / "one", key="x")
    done: list[int] = []
    resumed = calibrate(FLOAT, inputs, tmp_path / "one", key="x", progress=done.append)
    whole = calibrate(FLOAT, inputs, tmp_path / "two", key="x")
    assert done == [21, 22, 23, 24]
    assert resumed.pictures == whole.pictures == 24
    for name, histogram in whole.tensors.items():
        assert np.array_equal(histogram.counts, resumed.tensors[name].counts)
    assert [file.name for file in (tmp_path / "one").iterdir()] == [
        file.name for file in (tmp_path / "two").iterdir()
    ]


def test_a_score_that_is_no_number_is_an_error(
    inputs: list[np.ndarray], quantizer: Environment, tmp_path: Path
) -> None:
    """A float network that finds nothing can't be agreed with."""
    with pytest.raises(BadData, match="finds nothing"):
        run(tmp_path, inputs, lambda _: float("nan"), quantizer)


def test_no_pictures_and_broken_pictures(tmp_path: Path) -> None:
    """Nothing to calibrate on is an error, and so is a picture that is no number."""
    with pytest.raises(BadData, match="pictures to calibrate on"):
        calibrate(FLOAT, (), tmp_path, key="none")
    with pytest.raises(BadData, match="NaN"):
        calibrate(FLOAT, [np.full((1, 96, 96, 3), np.nan, np.float32)], tmp_path, key="nan")
    assert not list(tmp_path.iterdir())


def test_a_work_folder_that_can_not_be_written(inputs: list[np.ndarray], tmp_path: Path) -> None:
    """A file in its place is named."""
    (tmp_path / "work").write_text("in the way")
    with pytest.raises(CannotCreate, match="work"):
        calibrate(FLOAT, inputs[:1], tmp_path / "work", key="x")
