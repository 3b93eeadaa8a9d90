"""`edge-calibrate keygen` and `sign` as a user runs them, the minisign program, and the agent that verifies."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agent.bundle import Trust, load_bundle
from agent.bundle.signature import parse_public_key, verify_manifest
from agent.starter import STARTER, sample_clip, starter_bundle
from calibration.keys import Cost, new_key, secret_key_file
from tests.patience import HANGS_S

ROOT = Path(__file__).parents[2]
PROGRAM = shutil.which("minisign") or ""
needs_minisign = pytest.mark.skipif(not PROGRAM, reason="needs minisign: apt install minisign")


def command(package: str, *args: object, code: int = 0) -> str:
    """Run `package` as a user does; return what it says: where it fails, its last line."""
    done = subprocess.run(
        [sys.executable, "-m", package, *map(str, args)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=HANGS_S,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1] if code else done.stdout


def minisign(*args: object, typed: str = "") -> str:
    """Run the program; return what it says."""
    done = subprocess.run(
        [PROGRAM, *map(str, args)],
        input=typed,
        capture_output=True,
        text=True,
        timeout=HANGS_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Return a copy of the starter under another name, so that nobody has pinned it."""
    path = Path(shutil.copytree(starter_bundle(), tmp_path / "mine"))
    text = (path / "model.toml").read_text()
    text = text.replace(f'name = "{STARTER}"', 'name = "mine"')
    (path / "model.toml").write_text(re.sub(r"^version = \d+$", "version = 7", text, flags=re.MULTILINE))
    return path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """Return a secret key without a password, its public key beside it."""
    path = tmp_path / "keys" / "office.key"
    command("calibration", "keygen", "--out", path, "--unencrypted")
    return path


def configuration(tmp_path: Path, bundle: Path, *, trusted: str = "keys/office.pub") -> Path:
    """Return a configuration of one clip with `bundle`, which must be signed."""
    path = tmp_path / "config.toml"
    path.write_text(
        f'device = "d"\nstate_dir = "state"\nmodel = "{bundle}"\nsink = "events.jsonl"\n'
        f'[models]\ntrusted_keys = ["{trusted}"]\nrequire_signature = true\n'
        f'[[camera]]\nname = "yard"\nsource = "{sample_clip()}"\n'
    )
    return path


def test_a_bundle_is_signed_and_the_agent_runs_it(tmp_path: Path, bundle: Path, key: Path) -> None:
    """Without a signature it is refused; with one, `check` tells who signed; a changed byte is refused again."""
    config = configuration(tmp_path, bundle)
    assert "bundle is not signed" in command("agent", "run", "--config", config, code=65)
    said = command("calibration", "sign", bundle, "--key", key)
    assert ": bundle mine version 7, signed 20" in said
    checked = " ".join(command("agent", "check", "--config", config).split())
    assert "signed by" in checked
    assert "bundle mine version 7" in checked
    with (bundle / "model.toml").open("a") as manifest:
        manifest.write("# one more line\n")
    assert "it does not sign this model.toml" in command("agent", "run", "--config", config, code=65)


def test_a_key_that_can_not_be_read_is_a_wrong_setting(tmp_path: Path, bundle: Path) -> None:
    """Told before anything opens, with what to write."""
    config = configuration(tmp_path, bundle, trusted="keys/none.pub")
    assert "trusted_keys" in command("agent", "run", "--config", config, code=66)
    (tmp_path / "bad.pub").write_text("nothing\n")
    config = configuration(tmp_path, bundle, trusted="bad.pub")
    assert "56 characters" in command("agent", "run", "--config", config, code=78)


def test_keys_are_made_once_and_kept_from_others(tmp_path: Path, key: Path, bundle: Path) -> None:
    """Mode 600; what is there is never written over; a key that all may read does not sign."""
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes()
    assert "there already" in command("calibration", "keygen", "--out", key, "--unencrypted", code=73)
    assert key.read_bytes() == before
    assert {file.name for file in key.parent.iterdir()} == {"office.key", "office.pub"}
    key.chmod(0o644)
    assert "open to everybody" in command("calibration", "sign", bundle, "--key", key, code=77)
    said = command("calibration", "sign", bundle, "--key", key.with_suffix(".pub"), code=65)
    assert "secret key file" in said
    assert "chmod" not in said


def test_a_password_is_asked_for_only_where_somebody_is(tmp_path: Path) -> None:
    """A script gives a file; a password and none together make no sense."""
    out = tmp_path / "a.key"
    assert "--password-file" in command("calibration", "keygen", "--out", out, code=2)
    file = tmp_path / "password"
    file.write_text("secret\n")
    both = ("--unencrypted", "--password-file", file)
    assert "together" in command("calibration", "keygen", "--out", out, *both, code=2)
    assert not out.exists()


@needs_minisign
def test_minisign_accepts_our_signature(bundle: Path, key: Path) -> None:
    """File, comment and key as the program wants them."""
    command("calibration", "sign", bundle, "--key", key)
    said = minisign("-Vm", bundle / "model.toml", "-p", key.with_suffix(".pub"))
    assert "Signature and comment signature verified" in said
    assert "Trusted comment: bundle mine version 7" in said


@needs_minisign
@pytest.mark.parametrize("old", [False, True], ids=["hashed", "legacy"])
def test_we_accept_what_minisign_signs(tmp_path: Path, bundle: Path, old: bool) -> None:
    """With a key of its own, over the hash or, as before 0.6, over the file."""
    public, secret = tmp_path / "m.pub", tmp_path / "m.key"
    minisign("-G", "-W", "-p", public, "-s", secret)
    minisign("-S", *(["-l"] if old else []), "-s", secret, "-m", bundle / "model.toml", "-t", "mine 1")
    trusted = parse_public_key(public.read_bytes(), where="m.pub")
    signed = load_bundle(bundle, Trust((trusted,), required=True)).origin.signed
    assert signed is not None
    assert (signed.comment, signed.key) == ("mine 1", trusted.name)


@needs_minisign
def test_keys_go_both_ways(tmp_path: Path, bundle: Path, key: Path) -> None:
    """The program signs with our key, and we with one of its own."""
    minisign("-S", "-s", key, "-m", bundle / "model.toml")
    public = parse_public_key(key.with_suffix(".pub").read_bytes(), where="office.pub")
    manifest = (bundle / "model.toml").read_bytes()
    assert verify_manifest(manifest, (bundle / "model.toml.minisig").read_bytes(), [public])
    theirs = tmp_path / "m.key"
    minisign("-G", "-W", "-p", tmp_path / "m.pub", "-s", theirs)
    command("calibration", "sign", bundle, "--key", theirs)
    assert "verified" in minisign("-Vm", bundle / "model.toml", "-p", tmp_path / "m.pub")


@needs_minisign
def test_passwords_go_both_ways(tmp_path: Path, bundle: Path) -> None:
    """A key of ours opens there, at a small cost, and one of theirs here, with their own of 1 GiB."""
    ours, theirs, password = tmp_path / "ours.key", tmp_path / "theirs.key", tmp_path / "password"
    secret = new_key()
    ours.write_bytes(secret_key_file(secret, "secret", Cost(32_768, 1 << 20)))
    ours.chmod(0o600)
    minisign("-S", "-s", ours, "-m", bundle / "model.toml", typed="secret\n")
    assert load_bundle(bundle, Trust((secret.public,))).origin.signed
    password.write_text("Secret\n")
    wrong = ("sign", bundle, "--key", ours, "--password-file", password)
    assert "wrong password" in command("calibration", *wrong, code=77)

    minisign("-G", "-p", tmp_path / "theirs.pub", "-s", theirs, typed="secret\nsecret\n")
    password.write_text("secret\n")
    command("calibration", "sign", bundle, "--key", theirs, "--password-file", password)
    assert "verified" in minisign("-Vm", bundle / "model.toml", "-p", tmp_path / "theirs.pub")
