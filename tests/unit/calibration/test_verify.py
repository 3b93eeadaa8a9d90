"""`verify`: every artifact on the same frames, held against the floor."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from agent.bundle import load_bundle
from agent.errors import BadData, InputMissing, UsageError
from calibration.cli import cli
from calibration.cli.progress import Interrupted, shown
from calibration.footage import Footage
from calibration.verdict import Verification, held_to, rounded, update
from calibration.verify import measure
from tests.unit.calibration.colours import colours_bundle, network, write_pictures

GOOD, SWAPPED = network(0, 1, 2), network(1, 0, 2)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "pictures")


def verified(bundle, pictures: Path, **options) -> Verification:
    return measure(bundle, Footage(pictures, 300).frames(), **options).verification


def states(found: Verification) -> dict[str, str]:
    return {verdict.file: verdict.state for verdict in found.artifacts}


def test_good_int8_passes_and_bad_one_fails(tmp_path: Path, pictures: Path) -> None:
    """A copy of FP32 agrees wholly; one with two classes swapped is wrong on two pictures of three."""
    good = verified(colours_bundle(tmp_path / "good", fp32=GOOD, int8=GOOD), pictures)
    bad = verified(colours_bundle(tmp_path / "bad", fp32=GOOD, int8=SWAPPED), pictures)
    assert states(good) == {"fp32.onnx": "reference", "int8.onnx": "passed"}
    assert states(bad) == {"fp32.onnx": "reference", "int8.onnx": "below"}
    assert (good.exit_code, bad.exit_code) == (0, 1)
    agreement = bad.artifacts[1].figures["top1_agreement"]
    assert agreement.value == pytest.approx(1 / 3)
    assert agreement.low < 1 / 3 < agreement.high
    assert "top1_agreement 0.3333 is below 0.9" in bad.artifacts[1].reason


def test_labels_are_measured_too(tmp_path: Path, pictures: Path) -> None:
    """With labels by folder each artifact has its accuracy; agreement still decides."""
    found = verified(colours_bundle(tmp_path / "b", fp32=SWAPPED, int8=SWAPPED), pictures, labels=pictures)
    assert [verdict.figures["top1"].value for verdict in found.artifacts] == pytest.approx([1 / 3, 1 / 3])
    assert found.state == "passed"


def test_bad_labels_are_told_before_the_run(tmp_path: Path, pictures: Path) -> None:
    """Nobody waits for an hour to hear of a mistyped path."""
    bundle = colours_bundle(tmp_path / "b", fp32=GOOD)
    looked_at: list[int] = []
    with pytest.raises(InputMissing, match="no labels"):
        verified(bundle, pictures, labels=tmp_path / "none.csv", progress=looked_at.append)
    assert not looked_at


def test_without_reference_it_is_unmeasured(tmp_path: Path, pictures: Path) -> None:
    """INT8 alone has nothing to agree with: neither pass nor fault."""
    bundle = colours_bundle(tmp_path / "b", int8=GOOD)
    found = verified(bundle, pictures)
    assert (states(found), found.exit_code) == ({"int8.onnx": "unmeasured"}, 3)
    assert "give --reference" in found.artifacts[0].reason


def test_reference_from_outside(tmp_path: Path, pictures: Path) -> None:
    """Any model file that fits the manifest may be what all must agree with."""
    bundle = colours_bundle(tmp_path / "b", int8=GOOD)
    outside = tmp_path / "other.onnx"
    outside.write_bytes(SWAPPED)
    found = verified(bundle, pictures, reference=outside)
    assert (found.reference, states(found)) == ("other.onnx", {"int8.onnx": "below"})
    with pytest.raises(InputMissing, match=r"no such file: .*none\.onnx"):
        verified(bundle, pictures, reference=tmp_path / "none.onnx")
    outside.write_bytes(b"no network")
    with pytest.raises(BadData, match="the reference can't be run"):
        verified(bundle, pictures, reference=outside)


def test_artifact_that_does_not_load_is_a_fault_of_its_own(tmp_path: Path, pictures: Path) -> None:
    """It is named with the runtime's reason; the others are measured all the same."""
    found = verified(colours_bundle(tmp_path / "b", fp32=GOOD, fp16=b"no network", int8=GOOD), pictures)
    assert states(found) == {"fp32.onnx": "reference", "fp16.onnx": "broken", "int8.onnx": "passed"}
    assert "fp16.onnx can't be loaded by ONNX Runtime" in found.artifacts[1].reason
    assert found.exit_code == 1


def test_a_file_that_changes_after_the_check_does_not_run(tmp_path: Path, pictures: Path) -> None:
    """What is measured has the hash that the manifest says, and not only had it a moment ago."""
    bundle = colours_bundle(tmp_path / "b", fp32=GOOD, int8=GOOD)
    (tmp_path / "b" / "int8.onnx").write_bytes(SWAPPED)
    found = verified(bundle, pictures)
    assert states(found) == {"fp32.onnx": "reference", "int8.onnx": "broken"}
    assert "wrong sha256" in found.artifacts[1].reason


def test_a_count_beside_a_ready_set_is_refused(tmp_path: Path) -> None:
    """All pictures of a set are taken: a number that changes nothing is told, and nothing else is looked at."""
    (tmp_path / "set.json").write_text("{}")
    command = ["verify", str(tmp_path / "none"), "--clips", str(tmp_path)]
    asked = CliRunner().invoke(cli, [*command, "--count", "20"])
    assert isinstance(asked.exception, UsageError)
    assert "--count with a ready set" in str(asked.exception)
    assert isinstance(CliRunner().invoke(cli, command).exception, InputMissing)


@pytest.mark.parametrize(("goes_on", "told"), [(True, "run it again to go on"), (False, "run it again")])
def test_ctrl_c_is_one_line(goes_on: bool, told: str) -> None:
    """It says what a second run does, and the code is the shell's."""
    with pytest.raises(Interrupted) as stopped, shown(goes_on=goes_on):
        raise KeyboardInterrupt
    assert str(stopped.value) == f"interrupted; {told}"
    assert stopped.value.exit_code == 130


def test_reference_that_does_not_load_leaves_all_unmeasured(tmp_path: Path, pictures: Path) -> None:
    """Nothing passes for want of a reference."""
    found = verified(colours_bundle(tmp_path / "b", fp32=b"no network", int8=GOOD), pictures)
    assert states(found) == {"fp32.onnx": "broken", "int8.onnx": "unmeasured"}


def test_floor_of_the_manifest_and_of_the_caller(tmp_path: Path, pictures: Path) -> None:
    """The manifest's floor counts, unless another is asked for."""
    bundle = colours_bundle(tmp_path / "b", floor=0.3, fp32=GOOD, int8=SWAPPED)
    assert verified(bundle, pictures).state == "passed"
    assert verified(bundle, pictures, floor=0.5).state == "fault"


def test_a_floor_of_nothing_is_one(tmp_path: Path, pictures: Path) -> None:
    """A floor of 0 that is asked for holds; in a manifest 0 says that there is none, and agreement has one then."""
    bundle = colours_bundle(tmp_path / "b", floor=0.0, fp32=GOOD, int8=SWAPPED)
    assert (verified(bundle, pictures).floor, verified(bundle, pictures).state) == (0.9, "fault")
    assert (verified(bundle, pictures, floor=0.0).floor, verified(bundle, pictures, floor=0.0).state) == (
        0.0,
        "passed",
    )


def test_value_and_floor_are_rounded_alike(tmp_path: Path, pictures: Path) -> None:
    """What passes by less than is written down is not refused by the agent when it reads that."""
    bundle = colours_bundle(tmp_path / "b", floor=0.33332, fp32=GOOD, int8=SWAPPED)
    assert held_to(bundle, judged=True, labels=False, floor=None) == ("top1_agreement", 0.3333)
    update(bundle, verified(bundle, pictures))
    manifest = load_bundle(bundle.path).manifest
    assert manifest.accuracy.floor == manifest.artifact[1].value == rounded(1 / 3)
    load_bundle(bundle.path).check_floor(manifest.artifact[1])


def test_update_writes_what_was_measured(tmp_path: Path, pictures: Path) -> None:
    """Values, floor and state; the agent then knows that the bundle was measured."""
    bundle = colours_bundle(tmp_path / "b", fp32=GOOD, int8=SWAPPED)
    update(bundle, verified(bundle, pictures, floor=0.2))
    manifest = load_bundle(bundle.path).manifest
    assert (manifest.accuracy.metric, manifest.accuracy.floor) == ("top1", 0.2)
    assert [artifact.value for artifact in manifest.artifact] == [1.0, 0.3333]
    assert all(map(manifest.measured, manifest.artifact))


def test_update_leaves_signed_bundles_alone(tmp_path: Path, pictures: Path) -> None:
    """A signature would no longer fit."""
    bundle = colours_bundle(tmp_path / "b", fp32=GOOD, int8=GOOD)
    before = verified(bundle, pictures)
    (bundle.path / "model.toml.minisig").write_text("a signature")
    with pytest.raises(UsageError, match="would break the bundle's origin"):
        update(load_bundle(bundle.path), before)
    asked = ["verify", str(bundle.path), "--clips", str(tmp_path / "none"), "--update"]
    told = CliRunner().invoke(cli, asked).exception
    assert isinstance(told, UsageError), "before any frame is looked for"


def test_files_that_give_no_picture_are_named(tmp_path: Path, pictures: Path) -> None:
    """They are skipped and told; a folder without any picture is an error."""
    (pictures / "broken.png").write_bytes(b"no picture")
    footage = Footage(pictures, 300)
    assert len(list(footage.frames())) == 12
    assert list(footage.skipped) == ["broken.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadData, match="no clip or image can be used"):
        list(Footage(tmp_path / "empty", 300).frames())


@pytest.mark.parametrize(
    ("files", "code", "says"),
    [
        ({"fp32": GOOD, "int8": GOOD}, 0, "passed"),
        ({"fp32": GOOD, "int8": SWAPPED}, 1, "below"),
        ({"int8": GOOD}, 3, "unmeasured"),
    ],
)
def test_command(tmp_path: Path, pictures: Path, files: dict[str, bytes], code: int, says: str) -> None:
    """The table says the state, and so do the exit code and the JSON, which is all of standard output."""
    bundle = colours_bundle(tmp_path / "b", **files)
    asked = ["verify", str(bundle.path), "--clips", str(pictures)]
    table = CliRunner().invoke(cli, asked)
    assert (table.exit_code, says in table.stdout) == (code, True)
    assert max(map(len, table.stdout.splitlines())) <= 80
    document = CliRunner().invoke(cli, [*asked, "--json"])
    assert document.exit_code == code
    told = msgspec.json.decode(document.stdout)
    assert says in {told["state"], *(artifact["state"] for artifact in told["artifacts"])}
