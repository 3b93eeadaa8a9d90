"""Whose bundles run: shipped, signed, unsigned, and what the configuration makes of them."""

from __future__ import annotations

import logging
import shutil
from datetime import datetime, timezone
from pathlib import Path

import pytest

from agent.bundle import NOBODY, Trust, load_bundle
from agent.bundle.trust import SIGNATURE, read_trust
from agent.config import ModelsConfig
from agent.config.load import load_config
from agent.engines import Engines
from agent.errors import AgentError, BadConfig, BadData, InputMissing
from agent.starter import PEOPLE, shipped_bundle
from calibration.keys import new_key, public_key_file
from calibration.signing import sign, sign_bundle

KEY = new_key()
TRUST = Trust((KEY.public,))
REQUIRED = Trust((KEY.public,), required=True)
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a copy of the starter under another name: nobody has pinned it."""
    bundle = tmp_path / "mine"
    shutil.copytree(shipped_bundle(PEOPLE), bundle)
    change(bundle, f'name = "{PEOPLE}"', 'name = "mine"')
    return bundle


def change(bundle: Path, old: str, new: str) -> None:
    """Replace text in the manifest."""
    text = (bundle / "model.toml").read_text()
    assert old in text
    (bundle / "model.toml").write_text(text.replace(old, new))


def fault(bundle: Path, trust: Trust) -> str:
    """Return the one line that `bundle` is refused with."""
    with pytest.raises(BadData) as error:
        load_bundle(bundle, trust)
    assert "\n" not in str(error.value)
    return str(error.value)


def doubts(bundle: Path, trust: Trust = NOBODY) -> list[str]:
    """Return what is warned of, without what is measured of it."""
    loaded = load_bundle(bundle, trust)
    return [what for what, _ in loaded.doubts(loaded.artifact()) if "accurate" not in what]


def test_what_is_shipped_needs_no_signature(tmp_path: Path) -> None:
    """The starter, and a copy of it anywhere, run even where a signature is required; another file does not."""
    assert load_bundle(shipped_bundle(PEOPLE), REQUIRED).origin.kind == "shipped"
    copy = tmp_path / "copy"
    shutil.copytree(shipped_bundle(PEOPLE), copy)
    assert load_bundle(copy, REQUIRED).origin.kind == "shipped"
    weights = copy / load_bundle(copy).artifact().file
    weights.write_bytes(bytes(weights.stat().st_size))
    assert "wrong sha256" in fault(copy, REQUIRED)


def test_a_starter_that_was_changed_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the package's own model lies nothing else is run, and the hash to pin is told."""
    monkeypatch.setattr("agent.bundle.trust.is_shipped", lambda place: place == path)
    assert "not the manifest that this version was shipped with" in fault(path, NOBODY)


def test_an_unsigned_bundle_runs_with_a_warning_unless_one_is_required(path: Path) -> None:
    """One line, which says what to do."""
    for trust in (NOBODY, TRUST):
        assert doubts(path, trust) == ["the bundle is not signed"]
    assert "a signature is required" in fault(path, REQUIRED)
    assert "edge-calibrate sign" in fault(path, Trust(required=True))


def test_a_signed_bundle_runs_for_those_who_trust_its_key(path: Path) -> None:
    """Who signed, which bundle and version and when are told; without any key to check with there is a warning."""
    sign_bundle(path, KEY, AT)
    for trust in (TRUST, REQUIRED):
        assert doubts(path, trust) == []
        bundle = load_bundle(path, trust)
        about = f"bundle mine version {bundle.manifest.version}, signed 2026-01-02T03:04:05Z"
        assert bundle.origin.text == f"signed by {KEY.public.name} ({about})"
    assert doubts(path) == ["the bundle is signed, but no key is trusted: its signature is not checked"]
    assert "(now: none)" in fault(path, Trust(required=True))
    assert "not trusted" in fault(path, Trust((new_key().public,)))


def test_the_bytes_are_verified_before_they_are_parsed(path: Path) -> None:
    """A manifest that was tampered with is told by its signature, not by what is wrong in it."""
    sign_bundle(path, KEY, AT)
    change(path, "width = 300", "width = [[[[")
    assert "it does not sign this model.toml" in fault(path, TRUST)
    (path / "model.toml").write_bytes(b"#" * (2 << 20))
    assert "too large" in fault(path, TRUST)


def test_a_signature_that_is_no_file_or_huge_is_refused(path: Path) -> None:
    """A directory, or 20 MB, in its place."""
    (path / SIGNATURE).write_bytes(bytes(20 << 20))
    assert "too large" in fault(path, TRUST)
    (path / SIGNATURE).unlink()
    (path / SIGNATURE).mkdir()
    assert "not a regular file" in fault(path, TRUST)


def test_a_signed_manifest_that_leaves_out_a_hash_is_refused(path: Path) -> None:
    """Labels without sha256 could be exchanged under a good signature; they are not signed, nor run."""
    text = (path / "model.toml").read_text()
    line = next(line for line in text.splitlines(keepends=True) if line.startswith("labels_sha256"))
    change(path, line, "")
    with pytest.raises(BadData, match=r"no sha256: labels\.txt"):
        sign_bundle(path, KEY, AT)
    (path / SIGNATURE).write_bytes(sign((path / "model.toml").read_bytes(), KEY, "by hand"))
    assert "no sha256 for labels.txt" in fault(path, TRUST)
    load_bundle(path, NOBODY)


def test_a_damaged_bundle_is_not_signed(path: Path) -> None:
    """Every file is checked before, and nothing is written."""
    (path / "labels.txt").write_text("cat\n")
    with pytest.raises(BadData, match="wrong sha256"):
        sign_bundle(path, KEY, AT)
    assert not (path / SIGNATURE).exists()


def test_unmeasured_and_unsigned_are_each_warned_of_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The engine's room tells it when the model is opened, and not for the next camera."""
    with caplog.at_level(logging.WARNING), Engines(threads=1, eager=False, tell=print) as engines:
        engines.room(path)
        engines.room(path)
    lines = [record.getMessage() for record in caplog.records]
    assert sum("the bundle is not signed" in line for line in lines) == 1
    loaded = load_bundle(path)
    unmeasured = not loaded.manifest.measured(loaded.artifact())
    assert sum("nobody has measured" in line for line in lines) == unmeasured


def test_keys_are_files_or_lines_of_the_configuration(tmp_path: Path) -> None:
    """Relative to the configuration; a key that can't be read names its file and is a fault of the setting."""
    (tmp_path / "office.pub").write_bytes(public_key_file(KEY.public))
    other = new_key().public
    config = tmp_path / "config.toml"
    config.write_text(
        f'models.trusted_keys = ["./office.pub", "{other.line}"]\nmodels.require_signature = true\n'
        '[[camera]]\nname = "a"\nsource = "a.mp4"\n'
    )
    assert read_trust(load_config(config).models) == Trust((KEY.public, other), required=True)
    with pytest.raises(InputMissing, match=r"trusted_keys: .*none\.pub: no such file.*56 characters"):
        read_trust(ModelsConfig(trusted_keys=(str(tmp_path / "none.pub"),)))
    (tmp_path / "bad.pub").write_text("no key\n")
    with pytest.raises(BadConfig, match=r"bad\.pub is not base64"):
        read_trust(ModelsConfig(trusted_keys=(str(tmp_path / "bad.pub"),)))
    with pytest.raises(BadConfig, match=r"trusted_keys: unknown kind of key"):
        read_trust(ModelsConfig(trusted_keys=("RWZ" + "A" * 53,)))
    with pytest.raises(AgentError, match=r"models\.trusted_keys\[0\]"):
        ModelsConfig(trusted_keys=("https://example.org/key",))
