"""The parts of `edge-calibrate build`: bad input refused in one line, ONNX forms, resuming, whole bundles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from agent import wholefile
from agent.backends import open_engine
from agent.bundle import MANIFEST, Bundle, load_bundle, parse_manifest
from agent.bundle.files import digest_of
from agent.bundle.writing import write_bundle
from agent.errors import BadData, CannotCreate, InputMissing, UsageError
from agent.messages import EngineInfo, TensorSpec
from calibration.building.apart import check_apart
from calibration.building.convert import CONVERTED, check_same_network
from calibration.building.draft import check_size, parse_size, read_draft
from calibration.building.fitting import alternatives, check_fit
from calibration.building.golden import make_golden
from calibration.building.onnxfile import ImageInput, image_input, open_shapes, read_onnx
from calibration.building.onnxforms import modern, ranges_of, search_qdq, to_fp16, to_qdq
from calibration.building.unpack import unpack_fp16
from calibration.building.workfolder import WorkFolder
from calibration.ortengine import OrtEngine
from tests.unit.calibration.tiny import manifest_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Shape = Sequence[int | str]

TI_LITE = Path(__file__).parents[4] / "shared" / "data" / "models" / "yolox_nano_ti_lite_320_dw_fp16.tflite"
MANIFEST_TEXT = manifest_text(32)


def network(
    nodes: Sequence[onnx.NodeProto],
    *,
    inputs: dict[str, Shape] | None = None,
    output: Shape = (1, 8, 16, 16),
    kind: int = TensorProto.FLOAT,
    opset: int = 13,
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    """Return a network of `nodes` from `x` to `y`, with weights `w` (8, 3, 3, 3), `v` (8, 8, 3, 3), `bias` (8,)."""
    numbers = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(numbers.normal(0, 0.2, shape).astype(np.float32), name)
        for name, shape in (("w", (8, 3, 3, 3)), ("v", (8, 8, 3, 3)), ("bias", (8,)))
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info(name, kind, shape)
            for name, shape in (inputs or {"x": (1, 3, 32, 32)}).items()
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)],
        weights,
    )
    opsets = [
        helper.make_opsetid(domain, version) for domain, version in [("", opset), *((d, 1) for d in domains)]
    ]
    model = helper.make_model(graph, opset_imports=opsets)
    model.ir_version = 8
    return model


def convolutions() -> list[onnx.NodeProto]:
    """Return two convolutions, the second without a name, and a ReLU between them."""
    window = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    return [
        helper.make_node("Conv", ["x", "w"], ["a"], name="stem", strides=[2, 2], **window),
        helper.make_node("Relu", ["a"], ["b"], name="act"),
        helper.make_node("Conv", ["b", "v", "bias"], ["y"], **window),
    ]


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    """Return `model` as a file."""
    onnx.save(model, str(folder / "model.onnx"))
    return folder / "model.onnx"


class TestReading:
    def test_what_is_no_onnx_is_refused(self, tmp_path: Path) -> None:
        """Not there, empty, or other bytes."""
        with pytest.raises(InputMissing, match="model file not found"):
            read_onnx(tmp_path / "missing.onnx")
        for content in (b"", b"PK\x03\x04 no model at all", b"\x08"):
            (tmp_path / "bad.onnx").write_bytes(content)
            with pytest.raises(BadData, match=r"is no ONNX file|can't be read"):
                read_onnx(tmp_path / "bad.onnx")

    @given(content=st.binary(max_size=200))
    def test_no_bytes_make_a_traceback(
        self, content: bytes, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        """Any bytes are either a network or one line."""
        file = tmp_path_factory.getbasetemp() / "fuzz.onnx"
        file.write_bytes(content)
        with pytest.raises(BadData):
            read_onnx(file)

    def test_a_plugin_is_named_with_its_layer(self, tmp_path: Path) -> None:
        """An operator of another runtime."""
        nodes = [helper.make_node("BatchedNMS_TRT", ["x"], ["y"], name="head/nms", domain="trt")]
        file = saved(network(nodes, domains=("trt",)), tmp_path)
        with pytest.raises(BadData, match="unsupported operator BatchedNMS_TRT: layer head/nms of trt"):
            read_onnx(file)

    def test_an_unknown_operator_is_named_with_its_layer(self, tmp_path: Path) -> None:
        """A plug-in exported without a domain of its own."""
        file = saved(network([helper.make_node("MyNMS", ["x"], ["y"], name="head/nms")]), tmp_path)
        with pytest.raises(BadData, match=r"MyNMS.*head/nms"):
            read_onnx(file)

    def test_a_quantized_network_is_refused(self, tmp_path: Path) -> None:
        """Quantizing twice makes nothing good."""
        model = network([helper.make_node("QuantizeLinear", ["x", "s"], ["q"], name="in_q")])
        with pytest.raises(BadData, match="is quantized already: QuantizeLinear, layer in_q; give the FP32"):
            read_onnx(saved(model, tmp_path))

    def test_the_input_is_understood(self) -> None:
        """Both layouts, fixed and open sizes."""
        fixed = network(convolutions(), inputs={"x": (1, 3, 24, 32)})
        assert image_input(fixed) == ImageInput("x", "nchw", 32, 24)
        opened = network(convolutions(), inputs={"x": ("batch", "height", "width", 3)})
        assert image_input(opened) == ImageInput("x", "nhwc", None, None)

    @pytest.mark.parametrize(
        ("inputs", "kind", "told"),
        [
            ({"x": (1, 3, 8, 8), "size": (1, 2)}, TensorProto.FLOAT, "model inputs: x, size; export"),
            ({"x": (1, 3, 8, 8)}, TensorProto.FLOAT16, "FLOAT16; export it in FP32"),
            ({"x": (1, 1, 8, 8)}, TensorProto.FLOAT, "1x1x8x8; the agent feeds colour pictures"),
            ({"x": (1, 16, 3, 8, 8)}, TensorProto.FLOAT, "1x16x3x8x8"),
        ],
    )
    def test_other_inputs_are_refused(self, inputs: dict[str, Shape], kind: int, told: str) -> None:
        """Two inputs, half precision, grey pictures, clips."""
        with pytest.raises(BadData, match=told):
            image_input(network(convolutions(), inputs=inputs, kind=kind))

    def test_open_outputs_are_named(self) -> None:
        """An output as long as what was found can't run in TFLite."""
        assert list(open_shapes(network(convolutions(), output=("n", 6)))) == ["y"]
        assert list(open_shapes(network(convolutions()))) == []


class TestDraft:
    @given(width=st.integers(1, 9999), height=st.integers(1, 9999))
    def test_sizes_are_read(self, width: int, height: int) -> None:
        """Width first."""
        assert parse_size(f"{width}x{height}") == (width, height)

    @pytest.mark.parametrize("text", ["", "320", "320x", "x320", "-1x2", "3.5x4", "axb"])
    def test_other_sizes_are_refused(self, text: str) -> None:
        """With the form to write."""
        with pytest.raises(UsageError, match="416x416, width first"):
            parse_size(text)

    def test_the_command_line_goes_before_the_manifest(self, tmp_path: Path) -> None:
        """Size and floor; a manifest without a floor gets the usual one."""
        (tmp_path / "m.toml").write_bytes(MANIFEST_TEXT)
        (tmp_path / "labels.txt").write_text("person\n")
        plain = read_draft(tmp_path / "m.toml", size=None, floor=None).manifest
        assert (plain.input.width, plain.accuracy.floor) == (32, 0.9)
        other = read_draft(tmp_path / "m.toml", size=(64, 48), floor=0.5).manifest
        assert (other.input.width, other.input.height, other.accuracy.floor) == (64, 48, 0.5)

    def test_a_size_that_is_not_the_manifests_is_told(self, tmp_path: Path) -> None:
        """Unless it was asked for; an open size takes the manifest's."""
        draft = bundle_of(tmp_path)
        with pytest.raises(
            BadData, match=r"input of the model: 64x32; the manifest says 32x32: .*--size 32x32"
        ):
            check_size(draft, ImageInput("x", "nchw", 64, 32), chosen=False)
        check_size(draft, ImageInput("x", "nchw", 64, 32), chosen=True)
        check_size(draft, ImageInput("x", "nchw", None, 32), chosen=False)


class TestApart:
    def test_a_picture_in_both_folders_is_named(self, tmp_path: Path) -> None:
        """By what it holds, whatever it is called."""
        for name, shade in (
            ("clips/a.png", 10),
            ("clips/b.png", 20),
            ("other/c.png", 30),
            ("other/d.png", 20),
        ):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / name), np.full((64, 64, 3), shade, np.uint8))
        with pytest.raises(BadData, match=r"--held-out holds what is calibrated on: d\.png; give clips of"):
            check_apart(tmp_path / "clips", tmp_path / "other")
        (tmp_path / "other" / "d.png").unlink()
        check_apart(tmp_path / "clips", tmp_path / "other")


class TestSameNetwork:
    def test_it_is_the_same_in_the_other_layout(self, tmp_path: Path) -> None:
        """A picture is turned for an engine that takes channels first."""
        file = saved(network(convolutions()), tmp_path)
        engine = OrtEngine(file, precision="fp32", threads=1)
        assert check_same_network(engine, engine, [np.ones((1, 32, 32, 3), np.float32)], CONVERTED) == 0

    def test_a_transposed_output_is_told(self) -> None:
        """As onnx2tf does with a transposition at the end."""
        with pytest.raises(BadData, match=r"\[1, 4, 2\] and \[1, 2, 4\]; the conversion changed the layout"):
            check_same_network(Finder((1, 4, 2)), Finder((1, 2, 4)), [], CONVERTED)

    def test_a_difference_is_told(self) -> None:
        """In parts of the largest value, with the output's name."""
        picture = np.zeros((1, 32, 32, 3), np.float32)
        with pytest.raises(BadData, match=r"differ in output out: 0\.5"):
            check_same_network(Finder((1, 5, 1), gain=1.0), Finder((1, 5, 1), gain=0.5), [picture], CONVERTED)


class TestFit:
    def pictures(self) -> list[NDArray[np.uint8]]:
        """Return blue pictures with something red in them."""
        picture = np.full((32, 32, 3), (20, 100, 120), np.uint8)
        picture[8:24, 8:24] = (240, 100, 20)
        return [picture - np.uint8(n) for n in range(12)]

    def test_the_right_manifest_passes(self, tmp_path: Path) -> None:
        """A finder of red in 0..1."""
        check_fit(bundle_of(tmp_path), Finder((1, 5, 1)), self.pictures())

    @pytest.mark.parametrize(
        ("said", "meant"),
        [
            (
                'colour = "bgr"',
                r"colour = rgb, mean = \[0\.0, 0\.0, 0\.0\], std = \[255\.0, 255\.0, 255\.0\]",
            ),
            ("std = [1.0, 1.0, 1.0]", r"std = \[255\.0, 255\.0, 255\.0\]"),
            (
                "mean = [127.5, 127.5, 127.5]\nstd = [127.5, 127.5, 127.5]",
                r"std = \[255\.0, 255\.0, 255\.0\]",
            ),
        ],
    )
    def test_a_wrong_colour_order_or_range_is_told(self, tmp_path: Path, said: str, meant: str) -> None:
        """With the setting that finds more."""
        std = b"std = [255.0, 255.0, 255.0]"
        text = MANIFEST_TEXT.replace(std, said.encode() + (b"" if "std" in said else b"\n" + std))
        draft = bundle_of(tmp_path, text)
        order = slice(None, None, -1 if draft.manifest.input.colour == "bgr" else 1)
        with pytest.raises(BadData, match=rf"does not fit the network: .*{meant} finds .* did you mean that"):
            check_fit(draft, Finder((1, 5, 1)), [each[..., order] for each in self.pictures()])

    def test_pictures_that_show_nothing_are_told(self, tmp_path: Path) -> None:
        """Nothing is found whatever the setting."""
        black = [np.zeros((32, 32, 3), np.uint8)] * 4
        with pytest.raises(BadData, match=r"finds nothing of score 0\.3 in 4 pictures; give clips that show"):
            check_fit(bundle_of(tmp_path), Finder((1, 5, 1)), black)

    def test_another_decoder_is_told(self, tmp_path: Path) -> None:
        """By the shapes of the outputs."""
        with pytest.raises(BadData, match='do not fit decoder family "yolo"'):
            check_fit(bundle_of(tmp_path), Finder((1, 85, 7)), self.pictures())

    def test_alternatives_are_all_others(self, tmp_path: Path) -> None:
        """Each once and never the stated one; ImageNet's numbers turn with the colours."""
        stated = bundle_of(tmp_path).manifest.input
        others = list(alternatives(stated))
        assert stated not in others
        means = {other.colour: other.mean for other in others if other.mean[0] not in (0.0, 127.5)}
        assert means["bgr"] == means["rgb"][::-1]


class TestForms:
    def test_half_precision_keeps_the_outside(self) -> None:
        """Inputs and outputs stay float32, weights become float16, the given network stays as it was."""
        model = modern(network(convolutions()))
        half = to_fp16(model)
        assert {weight.data_type for weight in half.graph.initializer} == {TensorProto.FLOAT16}
        assert half.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
        assert half.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
        assert {weight.data_type for weight in model.graph.initializer} == {TensorProto.FLOAT}

    def test_q_dq_is_what_tensorrt_parses(self, tmp_path: Path) -> None:
        """Opset 19, all zero points 0, scales in half precision, no INT32, outputs not quantized; it still runs."""
        model = modern(network(convolutions()))
        pictures = list(noise(4))
        form = to_qdq(model, ranges_of(model, pictures))
        values = {each.name: numpy_helper.to_array(each) for each in form.graph.initializer}
        pairs = [node for node in form.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
        assert form.opset_import[0].version == 19
        assert len([node for node in pairs if node.op_type == "QuantizeLinear"]) == 2
        assert not any(values[node.input[2]].any() for node in pairs)
        assert {values[node.input[1]].dtype for node in pairs} == {np.dtype(np.float16)}
        assert not any(value.dtype == np.int32 for value in values.values())
        float_file, int8_file = saved(model, tmp_path), tmp_path / "qdq.onnx"
        onnx.save(form, str(int8_file))
        expected, seen = (
            OrtEngine(file, precision="", threads=1).infer(pictures[0])[0] for file in (float_file, int8_file)
        )
        assert np.abs(expected - seen).max() < 0.03 * np.abs(expected).max()

    def test_as_few_layers_as_needed_stay_in_float(self) -> None:
        """The first layers, until the score is good enough."""
        model = modern(network(convolutions()))
        ranges = ranges_of(model, noise(2))

        def score(form: onnx.ModelProto) -> float:
            return 1.0 - 0.2 * sum(node.op_type == "QuantizeLinear" for node in form.graph.node)

        assert search_qdq(model, ranges, score, floor=0.5)[1] == 0
        assert search_qdq(model, ranges, score, floor=0.7)[1] == 1
        assert search_qdq(model, ranges, score, floor=0.9)[1] == 1

    def test_the_same_network_gives_the_same_bytes(self) -> None:
        """Twice, byte for byte."""
        model = modern(network(convolutions()))
        forms = [
            to_qdq(model, ranges_of(model, noise(3))).SerializeToString(deterministic=True) for _ in "ab"
        ]
        assert forms[0] == forms[1]


class TestUnpacking:
    @pytest.mark.skipif(not TI_LITE.is_file(), reason="needs the FP16 model in ../shared/data")
    def test_half_precision_weights_become_float(self, tmp_path: Path) -> None:
        """The same outputs, without the operators that unpack at run time."""
        plain = tmp_path / "plain.tflite"
        plain.write_bytes(unpack_fp16(TI_LITE.read_bytes()))
        engines = [open_engine(file, precision="", threads=1) for file in (TI_LITE, plain)]
        picture = np.random.default_rng(0).uniform(0, 255, (1, 320, 320, 3)).astype(np.float32)
        np.testing.assert_array_equal(*(engine.infer(picture)[0] for engine in engines))
        assert engines[1].info.nodes < engines[0].info.nodes / 2


class TestWorkFolder:
    def test_what_was_made_is_found_again(self, tmp_path: Path) -> None:
        """Other inputs make another file."""
        work, made = WorkFolder(tmp_path / "work"), []

        def make() -> bytes:
            made.append(1)
            return b"content"

        first = work.file("fp32.onnx", {"a": 1, "b": [2]}, make)
        assert work.file("fp32.onnx", {"b": [2], "a": 1}, make) == first
        assert work.file("fp32.onnx", {"a": 2}, make) != first
        assert len(made) == 2
        assert first.suffix == ".onnx"

    def test_what_failed_leaves_nothing(self, tmp_path: Path) -> None:
        """So a second run does not take it for done."""
        work = WorkFolder(tmp_path)

        def fail() -> bytes:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            work.file("fp32.onnx", 1, fail)
        assert list(tmp_path.iterdir()) == []

    def test_no_room_is_one_line(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A full disk."""
        work = WorkFolder(tmp_path)
        full = OSError(28, "No space left on device")
        monkeypatch.setattr(wholefile.os, "fsync", raising(full))
        with pytest.raises(CannotCreate, match="No space left on device; make room"):
            work.file("fp32.onnx", 1, lambda: b"x")
        assert list(tmp_path.iterdir()) == []

    def test_a_place_that_can_not_be_made_is_named(self, tmp_path: Path) -> None:
        """Below a file."""
        (tmp_path / "file").write_text("")
        with pytest.raises(CannotCreate, match="--work"):
            WorkFolder(tmp_path / "file" / "work")


class TestBundle:
    def test_it_appears_whole_or_not_at_all(self, tmp_path: Path) -> None:
        """A file that is not as the manifest says leaves no directory."""
        model = saved(network(convolutions()), tmp_path)
        manifest = parse_manifest(MANIFEST_TEXT.replace(b'layout = "nchw"', b'sha256 = "00"'))
        files = {"tiny.onnx": model, "labels.txt": b"person\n"}
        with pytest.raises(BadData, match="wrong sha256"):
            write_bundle(tmp_path / "out", manifest, files)
        assert sorted(file.name for file in tmp_path.iterdir()) == ["model.onnx"]
        good = MANIFEST_TEXT.replace(b'layout = "nchw"', f'sha256 = "{digest_of(model)}"'.encode())
        written = write_bundle(tmp_path / "out", parse_manifest(good), files)
        assert written.manifest == load_bundle(tmp_path / "out").manifest
        assert sorted(file.name for file in written.path.iterdir()) == ["labels.txt", MANIFEST, "tiny.onnx"]

    def test_a_place_in_use_is_left_alone(self, tmp_path: Path) -> None:
        """A directory with something in it."""
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine").write_text("")
        with pytest.raises(CannotCreate, match="bundle directory is not empty"):
            write_bundle(tmp_path / "out", parse_manifest(MANIFEST_TEXT), {})


def bundle_of(folder: Path, text: bytes = MANIFEST_TEXT) -> Bundle:
    """Return a Bundle of the manifest `text`."""
    return Bundle(folder, parse_manifest(text), ("person",))


def noise(count: int) -> list[NDArray[np.float32]]:
    """Return inputs of the tiny network."""
    numbers = np.random.default_rng(1)
    return [numbers.uniform(0, 1, (1, 3, 32, 32)).astype(np.float32) for _ in range(count)]


def raising(error: Exception) -> Any:
    """Return a function that raises `error`."""

    def raise_it(*_: object) -> None:
        raise error

    return raise_it


class Finder:
    """An engine that scores how red a picture's middle is, as one trained on RGB in 0..1 may: (1, 5, 1)."""

    def __init__(self, shape: tuple[int, ...], *, gain: float = 1.0) -> None:
        self.input = TensorSpec("in", (1, 32, 32, 3), np.dtype(np.float32))
        self.outputs = (TensorSpec("out", shape, np.dtype(np.float32)),)
        self.info = EngineInfo("test", "fp32", 1, 0, 0)
        self._gain = gain

    def infer(self, tensor: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        """Score the middle: 0 unless values are in 0..1, else by the first channel, and the last a little."""
        red, _, blue = tensor[:, 8:24, 8:24].mean(axis=(0, 1, 2))
        sane = tensor.min() >= 0 and 0.05 < tensor.max() <= 1
        box = np.array([16, 16, 8, 8, max(red, 0.6 * blue) if sane else 0.0], np.float32)
        return (np.resize(box * self._gain, self.outputs[0].shape),)

    def close(self) -> None:
        """Do nothing."""


def test_golden_is_of_real_pictures(tmp_path: Path) -> None:
    """Pixels before mean and std, outputs as the float network gives them."""
    from calibration.clips.pictureset import Picture

    files = []
    for n in range(3):
        files.append(tmp_path / f"{n}.png")
        cv2.imwrite(str(files[-1]), np.full((64, 64, 3), (20, 100, 200 - n), np.uint8))
    pictures = [Picture(file, file.name, 0, 0.0, digest_of(file), "calibrate") for file in files]
    golden = make_golden(bundle_of(tmp_path).manifest, Finder((1, 5, 1)), pictures)
    assert golden.pixels.shape == (2, 32, 32, 3)
    assert np.abs(golden.pixels[0].astype(int) - (200, 100, 20)).max() <= 2
    assert golden.outputs[0].shape == (2, 5, 1)
    assert golden.outputs[0][0, 4, 0] == pytest.approx(200 / 255, abs=0.02)
