"""Tunings on disk: whole or not at all, and never a reason for the agent not to start."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.errors import CannotCreate
from agent.measured import Device, Tuning, read_tuning, write_tuning
from agent.measured.store import hashes, place, prepare
from tests.unit.measured.conftest import FP32, INT8

BOTH = (INT8, FP32)


@pytest.fixture
def kept(tmp_path: Path, tuning: Tuning) -> Path:
    """Return where `tuning` was written."""
    prepare(tmp_path)
    return write_tuning(tmp_path, tuning)


def test_what_was_kept_is_read_again_for_the_same_weights_alone(
    kept: Path, tmp_path: Path, tuning: Tuning
) -> None:
    """In whatever order the manifest lists them; other weights have none."""
    assert read_tuning(tmp_path, BOTH) == tuning
    assert read_tuning(tmp_path, BOTH[::-1]) == tuning
    assert read_tuning(tmp_path, (INT8,)) is None
    assert read_tuning(tmp_path, (INT8, msgspec.structs.replace(FP32, sha256="ef" * 32))) is None
    assert read_tuning(tmp_path / "elsewhere", BOTH) is None


def test_a_tuning_under_the_name_of_another_is_none(kept: Path, tmp_path: Path) -> None:
    """Copied there by hand: it is of other weights."""
    kept.rename(place(tmp_path, hashes((INT8,))))
    assert read_tuning(tmp_path, (INT8,)) is None


def test_nothing_else_is_left_in_the_folder(kept: Path, tmp_path: Path, tuning: Tuning) -> None:
    """Neither drafts nor the one before."""
    assert write_tuning(tmp_path, tuning) == kept
    assert list(kept.parent.iterdir()) == [kept]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=80) | st.sampled_from([b"{}", b"[" * 100_000, b'{"schema": 2}', b"\xff"]))
def test_a_file_that_is_none_of_ours_is_told_and_left_alone(
    content: bytes, kept: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The agent goes on as if nothing had been measured."""
    caplog.clear()
    kept.write_bytes(content)
    assert read_tuning(tmp_path, BOTH) is None
    assert "`edge-agent tune` makes it anew" in caplog.text


@pytest.mark.parametrize("cut", [0, 1, 100, -1])
def test_half_a_file_is_none(cut: int, kept: Path, tmp_path: Path) -> None:
    """Cut off anywhere."""
    kept.write_bytes(kept.read_bytes()[:cut])
    assert read_tuning(tmp_path, BOTH) is None


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/etc/hostname")])
def test_what_is_no_file_is_none(make, tmp_path: Path) -> None:
    """A directory, a FIFO that would be waited for, a link that leads away."""
    prepare(tmp_path)
    make(place(tmp_path, hashes(BOTH)))
    assert read_tuning(tmp_path, BOTH) is None


def test_a_state_directory_that_can_not_be_made_is_one_line(tmp_path: Path) -> None:
    """Before anything is measured."""
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotCreate, match="give a state directory that this user can write"):
        prepare(tmp_path / "file" / "state")


def test_a_write_that_fails_leaves_the_old_one(
    kept: Path, tmp_path: Path, tuning: Tuning, monkeypatch
) -> None:
    """As on a full disk: the draft is gone, the file is as it was."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = kept.read_bytes()
    monkeypatch.setattr("agent.wholefile.os.fsync", full)
    with pytest.raises(CannotCreate, match="No space left"):
        write_tuning(tmp_path, msgspec.structs.replace(tuning, rounds=9))
    assert kept.read_bytes() == before
    assert list(kept.parent.iterdir()) == [kept]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, ()),
        ({"usable_cpus": 2}, ("usable cpus: 4 then, 2 now",)),
        ({"board": "Raspberry Pi 4 B", "cpu": "Cortex-A72"},
         ("board: Raspberry Pi 5 then, Raspberry Pi 4 B now", "cpu: Cortex-A76 then, Cortex-A72 now")),
        ({"runtimes": {"litert": "2.4.0"}}, ("litert: 2.3.0 then, 2.4.0 now",)),
        ({"runtimes": {"litert": "2.3.0", "tensorrt": "10.3.0"}}, ("tensorrt: none then, 10.3.0 now",)),
        ({"runtimes": {"litert": None}}, ()),
        ({"runtimes": {}}, ()),
        ({"l4t": "36.4.0"}, ("l4t: None then, 36.4.0 now",)),
        ({"power_mode": "7W"}, ("power mode: None then, 7W now",)),
    ],
)  # fmt: skip
def test_what_differs_from_then_is_told(device: Device, change: dict, told: tuple[str, ...]) -> None:
    """Hardware, CPUs and versions; a version nobody can tell now and a runtime that is gone are no difference."""
    assert msgspec.structs.replace(device, **change).differences(device) == told
