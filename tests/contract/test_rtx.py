"""Our build code against a real TensorRT builder: TensorRT-RTX, which needs no GPU to build."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.bundle import parse_manifest
from tests.contract import rtx
from tests.doubles.networks import convolutions, two_outputs

if TYPE_CHECKING:
    from collections.abc import Iterator

MODELS = Path(__file__).parents[2] / "models"


def shipped() -> Iterator[Path]:
    """Yield the ONNX files of the bundles in this repository."""
    for manifest in sorted(MODELS.glob("*/model.toml")):
        artifacts = parse_manifest(manifest.read_bytes()).artifact
        yield from (manifest.parent / each.file for each in artifacts if each.format == "onnx")


@pytest.mark.timeout(900)
def test_every_onnx_that_is_shipped_builds() -> None:
    """Whatever precision it has, for one to four pictures at once; the outputs keep the file's order."""
    import onnx

    files = list(shipped())
    assert files
    for file, built in zip(files, rtx.build(*files), strict=True):
        assert built["error"] == ""
        assert built["batch"] == 4
        assert built["outputs"] == [output.name for output in onnx.load(file).graph.output]
        assert built["plan_bytes"] > 0
        assert built["shares"] == sorted(built["shares"])


@pytest.mark.timeout(900)
def test_every_precision_builds_as_edge_calibrate_writes_it(tmp_path: Path) -> None:
    """FP32, FP16 and Q/DQ of one small network as bundles are made, for one picture and for more."""
    single = {"single": two_outputs(), "half": two_outputs(half=True)}
    forms = {**convolutions(), "open": two_outputs(batch="n"), **single}
    files = []
    for name, form in forms.items():
        files.append(tmp_path / f"{name}.onnx")
        files[-1].write_bytes(form)
    results = rtx.build(*files)
    assert [built["error"] for built in results] == [""] * len(files)
    assert [built["batch"] for built in results] == [4, 4, 4, 4, 1, 1]
    assert results[3]["outputs"] == ["zwei", "eins"]


@pytest.mark.timeout(900)
def test_what_it_refuses_is_told_by_node_and_reason(tmp_path: Path) -> None:
    """In one line each: an operator nobody knows, no ONNX at all, a file that is cut off, and an empty one."""
    bad = {
        "unknown": (two_outputs(operator="Hum"), "node twice (Hum): Plugin not found"),
        "text": (b"no ONNX at all", "Failed to parse the ONNX model"),
        "cut": (two_outputs()[:200], "Failed to parse the ONNX model"),
        "empty": (b"", "0 inputs, 0 outputs"),
        "fixed": (two_outputs(batch=2), "tensor x: shape: (2, 3, 4, 5)"),
    }
    files = []
    for name, (content, _) in bad.items():
        files.append(tmp_path / f"{name}.onnx")
        files[-1].write_bytes(content)
    for built, (_, wanted) in zip(rtx.build(*files), bad.values(), strict=True):
        assert wanted in built["error"]
        assert "\n" not in built["error"]
