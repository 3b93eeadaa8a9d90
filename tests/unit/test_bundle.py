"""Bundles: every file checked, every error one clear line."""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path

import numpy as np
import pytest

from agent.bundle import load_bundle, parse_manifest
from agent.bundle.files import digest_of
from agent.bundle.golden import Golden, dump_golden
from agent.bundle.manifest import dump_manifest
from agent.errors import BadData, CannotCreate, InputMissing, NotPermitted
from agent.modeladd import add_model

WEIGHTS = b"weights " * 100
MANIFEST = f"""
schema = 1
name = "test"
version = 3
task = "detect"
licence = "MIT"
labels = "labels.txt"
[input]
width = 300
height = 200
[decoder]
family = "ssd"
anchors = "anchors.npy"
[[artifact]]
file = "int8.tflite"
format = "tflite"
precision = "int8"
bytes = {len(WEIGHTS)}
sha256 = "{hashlib.sha256(WEIGHTS).hexdigest()}"
"""


@pytest.fixture
def path(tmp_path):
    """Return a sound bundle."""
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "model.toml").write_text(MANIFEST)
    (bundle / "int8.tflite").write_bytes(WEIGHTS)
    (bundle / "labels.txt").write_text("person\ntraffic light\n")
    np.save(bundle / "anchors.npy", np.ones((5, 4), np.float32))
    return bundle


def change(path, old, new):
    """Replace text in the manifest."""
    text = (path / "model.toml").read_text()
    assert old in text
    (path / "model.toml").write_text(text.replace(old, new))


def fault(path, kind=BadData):
    """Return the one line that loading `path` fails with."""
    with pytest.raises(kind) as error:
        load_bundle(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_sound_bundle_loads(path):
    """Manifest, labels and anchors are there, defaults filled in."""
    bundle = load_bundle(path)
    assert bundle.labels == ("person", "traffic light")
    assert bundle.anchors.dtype == np.float32
    assert bundle.manifest.input.mean == (0, 0, 0)
    assert bundle.manifest.accuracy.state == "unmeasured"
    assert bundle.file(bundle.artifact()) == path / "int8.tflite"


def test_int8_is_chosen_before_fp16_and_fp32(path):
    """The smallest precision is what runs, unless another was chosen; a bundle without tflite is told so."""
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    with (path / "model.toml").open("a") as manifest:
        for precision in ("fp32", "fp16"):
            (path / f"{precision}.tflite").write_bytes(WEIGHTS)
            manifest.write(f'[[artifact]]\nfile = "{precision}.tflite"\nformat = "tflite"\n')
            manifest.write(f'precision = "{precision}"\nsha256 = "{digest}"\n')
    bundle = load_bundle(path)
    assert bundle.artifact().precision == "int8"
    assert bundle.choose(bundle.manifest.artifact[-1]).artifact().precision == "fp16"
    change(path, 'precision = "int8"', 'precision = "fp32"')
    assert load_bundle(path).artifact().precision == "fp16"


def test_a_changed_byte_is_found(path):
    """Same size, other contents: which file, what was seen, what was expected."""
    (path / "int8.tflite").write_bytes(b"W" + WEIGHTS[1:])
    line = fault(path)
    assert "int8.tflite: wrong sha256" in line
    assert hashlib.sha256(WEIGHTS).hexdigest()[:12] in line


def test_a_cut_file_is_found(path):
    """A copy that stopped early is named by its size."""
    (path / "int8.tflite").write_bytes(WEIGHTS[:-1])
    assert "size in bytes: 799; the manifest says 800" in fault(path)


@pytest.mark.parametrize("name", ["model.toml", "labels.txt", "anchors.npy", "int8.tflite"])
def test_a_missing_file_is_named(path, name):
    """Exit code 66 and the file's name."""
    (path / name).unlink()
    assert name in fault(path, InputMissing)


@pytest.mark.parametrize("name", ["labels", "anchors"])
def test_hashes_of_labels_and_anchors_are_checked(path, name):
    """Where the manifest has their hashes, labels and anchors are held to them."""
    before = ('labels = "labels.txt"', 'anchors = "anchors.npy"')[name == "anchors"]
    change(path, before, f'{before}\n{name}_sha256 = "{"0" * 64}"')
    assert "wrong sha256" in fault(path)


def test_a_missing_or_flat_bundle_is_told_apart(tmp_path):
    """No path is 66; a model file where a bundle is asked for says how to make one."""
    assert "not found" in fault(tmp_path / "none", InputMissing)
    (tmp_path / "model.tflite").write_bytes(WEIGHTS)
    assert "edge-agent model add" in fault(tmp_path / "model.tflite")


def test_a_path_that_can_not_be_looked_at_is_one_clear_line(tmp_path):
    """A name that no file system takes, as a directory that may not be entered."""
    assert "File name too long; check the path" in fault(tmp_path / TOO_LONG, NotPermitted)


TOO_LONG, LONG_IN_BYTES = "a" * 256, "\u00e4" * 128


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("width = 300", "widht = 300", r'unknown key: input\.widht; did you mean "width"\?'),
        ("precision =", "precison =", r'unknown key: artifact\.precison; did you mean "precision"\?'),
        ("licence =", "license =", r'unknown key: license; did you mean "licence"\?'),
        ("width = 300", 'width = "300"', r"input\.width: Expected `int`, got `str`"),
        ("width = 300", "", r"input: Object missing required field `width`"),
        ("width = 300", "width = 0", r"input\.width: 0; must be 8 to 8192"),
        ('family = "ssd"', 'family = "sdd"', r"decoder\.family: Invalid enum value 'sdd'"),
        ("schema = 1", "schema = 2", r"schema: 2; this version reads schema 1"),
        ('task = "detect"', 'task = "classify"', r"task: classify with ssd"),
        ('anchors = "anchors.npy"', "", r"decoder\.anchors: none"),
        ('"int8.tflite"', '"../int8.tflite"', r"artifact\.file: '\.\./int8\.tflite'; must be a plain"),
        ('"labels.txt"', '"/etc/passwd"', r"labels: '/etc/passwd'; must be a plain"),
        ('"labels.txt"', f'"{TOO_LONG}"', r"labels: a{40}\.\.\.; a file name has at most 255 bytes"),
        ('"anchors.npy"', f'"{LONG_IN_BYTES}"', r"decoder\.anchors: .*at most 255 bytes"),
        ('"anchors.npy"', '".."', r"decoder\.anchors: '\.\.'; must be a plain"),
        ("[input]", "[input", r"is not TOML"),
        ("version = 3", "version = 0", r"version: 0; must be 1"),
        ("width = 300", "width = 300\nstd = [1.0, 0.0, 1.0]", r"input\.std: 0\.0; must be above 0"),
        (f'sha256 = "{hashlib.sha256(WEIGHTS).hexdigest()}"', "", r"no sha256 for int8\.tflite"),
    ],
)
def test_a_wrong_manifest_is_explained(path, old, new, line):
    """Typos, wrong types and values, paths: the key, what was seen, what to do."""
    change(path, old, new)
    found = fault(path)
    assert re.search(line, found), found
    assert "model.toml" in found


def pickled():
    """Return an .npy that would run code when unpickled."""
    stream = io.BytesIO()
    np.save(stream, np.array([{}], object), allow_pickle=True)
    return stream.getvalue()


def npy(array):
    """Return `array` as .npy."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def claiming(shape):
    """Return an .npy that says it has `shape`."""
    raw, room = npy(np.ones((3, 4))), 30
    return raw.replace(b"(3, 4), }".ljust(room), (shape + b", }").ljust(room))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"text",
        pickled(),
        npy(np.ones((4, 5))),
        npy(np.ones(4)),
        npy(np.full((2, 4), np.nan)),
        npy(np.ones((0, 4))),
        claiming(b"(9999999999999, 4)"),
        claiming(b"(9999999999999999999, 4)"),
        claiming(b"(3, 4"),
    ],
)
def test_wrong_anchors_are_refused(path, raw):
    """Anchors that are no array, objects, of another shape, not finite or none at all."""
    (path / "anchors.npy").write_bytes(raw)
    assert "anchors.npy" in fault(path)


@pytest.mark.parametrize("raw", [b"", b"a\n\nb\n", b"a\nb\na\n", b"a/b\n", b"\xff\xfe\n", b"a\x00\n"])
def test_wrong_labels_are_refused(path, raw):
    """Labels must be there, differ, be text, and fit in an MQTT topic."""
    (path / "labels.txt").write_bytes(raw)
    assert "labels.txt" in fault(path)


def test_links_may_not_lead_out(path, tmp_path):
    """A link inside the bundle is fine, one that leaves it is not."""
    (path / "int8.tflite").rename(path / "real.tflite")
    (path / "int8.tflite").symlink_to("real.tflite")
    load_bundle(path)
    (path / "real.tflite").rename(tmp_path / "outside.tflite")
    (path / "int8.tflite").unlink()
    (path / "int8.tflite").symlink_to(tmp_path / "outside.tflite")
    assert "out of its directory" in fault(path)


def test_what_is_written_reads_back(path):
    """A manifest survives being written."""
    manifest = load_bundle(path).manifest
    assert parse_manifest(dump_manifest(manifest)) == manifest


@pytest.fixture
def draft(path, tmp_path):
    """Return a manifest without size and hash, beside its labels and anchors, and a model file."""
    source = tmp_path / "source"
    path.rename(source)
    (source / "int8.tflite").rename(tmp_path / "downloaded.tflite")
    text = re.sub(r"(bytes|sha256) = .*\n", "", MANIFEST)
    (source / "model.toml").rename(source / "known.toml")
    (source / "known.toml").write_text(text)
    return source / "known.toml", tmp_path / "downloaded.tflite"


def test_add_makes_a_whole_bundle(draft, tmp_path):
    """Size and every hash are computed, and the directory holds just the bundle."""
    bundle = add_model(*draft, tmp_path / "deep" / "out")
    assert bundle.artifact().sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    assert bundle.artifact().bytes == len(WEIGHTS)
    assert bundle.manifest.labels_sha256
    assert bundle.manifest.decoder.anchors_sha256
    names = {"model.toml", "int8.tflite", "labels.txt", "anchors.npy"}
    assert {file.name for file in bundle.path.iterdir()} == names
    assert [entry.name for entry in bundle.path.parent.iterdir()] == ["out"]


def test_add_verifies_an_expected_hash(draft, tmp_path):
    """A download that is not the one the manifest means is refused, and nothing is left."""
    with draft[0].open("a") as manifest:
        manifest.write(f'sha256 = "{"0" * 64}"\n')
    with pytest.raises(BadData, match=r"downloaded\.tflite: wrong sha256"):
        add_model(*draft, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_add_never_writes_over(draft, tmp_path):
    """A directory in use stays as it is; an empty one is filled."""
    (tmp_path / "out").mkdir()
    add_model(*draft, tmp_path / "out")
    with pytest.raises(CannotCreate, match="not empty"):
        add_model(*draft, tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(CannotCreate, match="taken"):
        add_model(*draft, tmp_path / "file")


def test_add_leaves_nothing_when_it_fails_half_way(draft, tmp_path, monkeypatch):
    """A full disk in the middle leaves neither a bundle nor a part of one."""

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("agent.bundle.writing.shutil.copyfile", full)
    with pytest.raises(CannotCreate, match="No space left on device"):
        add_model(*draft, tmp_path / "new" / "out")
    assert list((tmp_path / "new").iterdir()) == []


def test_add_says_what_is_missing(draft, tmp_path):
    """No manifest, no weights, weights of another kind."""
    manifest, weights = draft
    with pytest.raises(InputMissing, match=r"none\.toml"):
        add_model(manifest.parent / "none.toml", weights, tmp_path / "out")
    with pytest.raises(InputMissing, match=r"none\.tflite"):
        add_model(manifest, weights.parent / "none.tflite", tmp_path / "out")
    (tmp_path / "m.onnx").write_bytes(WEIGHTS)
    with pytest.raises(BadData, match=r"fits no \[\[artifact\]\]: m\.onnx"):
        add_model(manifest, tmp_path / "m.onnx", tmp_path / "out")


def test_add_takes_no_value_that_was_measured_of_another_file(draft, tmp_path):
    """Where the manifest does not say of which file it was measured, it says nothing of this one."""
    with draft[0].open("a") as manifest:
        manifest.write("value = 0.9\n")
    assert add_model(*draft, tmp_path / "out").artifact().value is None


def golden(size=(200, 300), n=2):
    """Return a golden file's content for the manifest's input."""
    pixels = np.arange(n * size[0] * size[1] * 3, dtype=np.uint8).reshape(n, *size, 3)
    return Golden(pixels, (np.ones((n, 5, 4), np.float32), np.zeros((n, 5, 2), np.float32)))


def put_golden(path, raw):
    """Put a golden file into the bundle and its hash into the manifest."""
    (path / "golden.npz").write_bytes(raw)
    digest = hashlib.sha256(raw).hexdigest()
    change(path, "[input]", f'golden = "golden.npz"\ngolden_sha256 = "{digest}"\n[input]')


def test_golden_comes_back(path):
    """Inputs and outputs, the same bytes each time they are written; a bundle without has none."""
    assert load_bundle(path).golden() is None
    raw = dump_golden(golden())
    put_golden(path, raw)
    found = load_bundle(path).golden()
    assert np.array_equal(found.pixels, golden().pixels)
    assert [output.shape for output in found.outputs] == [(2, 5, 4), (2, 5, 2)]
    assert dump_golden(found) == raw


def npz(**arrays):
    """Return `arrays` as .npz."""
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def damaged(raw, at, value):
    """Return `raw` with another byte at `at`."""
    return raw[:at] + bytes([value]) + raw[at + 1 :]


PIXELS, OUTPUT = golden().pixels, golden().outputs[0]
PACKED = dump_golden(golden())
DIRECTORY = PACKED.index(b"PK\1\2")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"text",
        dump_golden(golden())[:-100],
        npz(output0=OUTPUT),
        npz(pixels=PIXELS),
        npz(pixels=PIXELS[0], output0=OUTPUT),
        npz(pixels=PIXELS.astype(np.float32), output0=OUTPUT),
        npz(pixels=PIXELS, output0=OUTPUT[:1]),
        npz(pixels=PIXELS, output0=OUTPUT * np.float32("nan")),
        npz(pixels=np.array([{}], object), output0=OUTPUT),
        npz(pixels=PIXELS[:, :64], output0=OUTPUT),
        npy(np.ones((4, 5))),
        damaged(PACKED, 60, 0xFF),
        damaged(PACKED, DIRECTORY + 8, 1),
        damaged(PACKED, DIRECTORY + 10, 99),
    ],
)
def test_a_wrong_golden_file_is_refused_when_it_is_read(path, raw):
    """Damaged, encrypted, incomplete, of other types and sizes: one line; until then the bundle loads."""
    put_golden(path, raw)
    bundle = load_bundle(path)
    with pytest.raises(BadData, match=r"golden\.npz"):
        bundle.golden()


def test_a_golden_file_is_held_to_its_hash(path):
    """One byte more is found; a golden file without a hash is not taken."""
    put_golden(path, dump_golden(golden()))
    with (path / "golden.npz").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BadData, match=r"golden\.npz: wrong sha256"):
        load_bundle(path).golden()
    change(path, "golden_sha256", "#")
    assert "give golden and golden_sha256" in fault(path)


def test_a_golden_file_that_would_fill_the_memory_is_refused(path, monkeypatch):
    """The size is looked at before anything is unpacked."""
    monkeypatch.setattr("agent.bundle.golden._MOST_BYTES", 1000)
    put_golden(path, dump_golden(golden()))
    with pytest.raises(BadData, match="bytes unpacked"):
        load_bundle(path).golden()


def test_what_was_measured_below_the_floor_is_told(path):
    """Unmeasured is a warning; measured and below the floor is a fault; a value outside 0..1 is none."""
    bundle = load_bundle(path)
    assert any("nobody has measured" in what for what, _ in bundle.doubts(bundle.artifact()))
    change(path, "[input]", '[accuracy]\nstate = "measured"\nfloor = 0.9\n[input]')
    change(path, 'precision = "int8"', 'precision = "int8"\nvalue = 0.95')
    bundle = load_bundle(path)
    bundle.check_floor(bundle.artifact())
    assert not any("nobody has measured" in what for what, _ in bundle.doubts(bundle.artifact()))
    change(path, "value = 0.95", "value = 0.85")
    bundle = load_bundle(path)
    with pytest.raises(BadData, match=r"agreement_ap50 0\.85; its floor is 0\.9"):
        bundle.check_floor(bundle.artifact())
    change(path, "value = 0.85", "value = nan")
    assert "artifact.value: nan; must be 0.0 to 1.0" in fault(path)


def test_a_file_on_a_bad_block_is_a_damaged_one() -> None:
    """The disk can't read it to its end: the agent goes on with another model, and does not end with an OSError."""
    with pytest.raises(BadData, match="can't read /proc/self/mem to its end: Input/output error"):
        digest_of(Path("/proc/self/mem"))
