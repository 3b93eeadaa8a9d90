"""`edge-calibrate keygen` and `edge-calibrate sign`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from agent.cli.common import FILE
from agent.errors import NotPermitted, UsageError

_PASSWORD_BYTES = 4096
_PASSWORD = click.option(
    "--password-file", type=FILE, metavar="FILE", help="Password in the first line; default: asked for."
)


@click.command()
@click.option(
    "--out",
    type=FILE,
    default=Path("edge-agent.key"),
    show_default=True,
    metavar="KEY",
    help="The secret key; the public one lies beside it and ends in .pub.",
)
@_PASSWORD
@click.option("--unencrypted", is_flag=True, help="No password: whoever can read the file can sign.")
def keygen(out: Path, password_file: Path | None, unencrypted: bool) -> None:
    """Make a pair of keys that sign bundles, as minisign's.

    Exit codes: 0 done; 2 usage; 66 password file missing; 73 can't write, or the file is there.
    """
    from agent.wholefile import write_whole
    from calibration.keys import new_key, public_key_file, secret_key_file
    from calibration.wholefile import check_free

    if unencrypted and password_file is not None:
        raise UsageError("--unencrypted and --password-file together", fix="give one of them")
    public_file = out.with_suffix(".pub")
    if public_file == out:
        raise UsageError("--out", seen=out, fix="give the secret key a name that does not end in .pub")
    check_free(out, public_file)
    key = new_key()
    password = None if unencrypted else _password(password_file, confirm=True)
    write_whole(out, secret_key_file(key, password), mode=0o600)
    write_whole(public_file, public_key_file(key.public))
    click.echo(f"{out}: secret key {key.public.name}; keep it, and a copy, to yourself")
    click.echo(f'{public_file}: public key; for devices: [models] trusted_keys = ["{key.public.line}"]')


@click.command()
@click.argument("bundle", type=FILE)
@click.option("--key", type=FILE, required=True, metavar="KEY", help="Secret key of keygen or minisign.")
@_PASSWORD
def sign(bundle: Path, key: Path, password_file: Path | None) -> None:
    """Sign BUNDLE, every file of it checked first; writes model.toml.minisig into it.

    Exit codes: 0 done; 65 bad bundle or key; 66 file missing; 73 can't write; 77 wrong password.
    """
    from datetime import datetime, timezone

    from agent.bundle.signature import MOST_BYTES
    from agent.bundle.trust import SIGNATURE
    from agent.smallfile import read_small
    from calibration.keys import parse_secret_key
    from calibration.signing import sign_bundle

    raw, mode = read_small(key, what=f"secret key {key}", max_bytes=MOST_BYTES)
    secret = parse_secret_key(raw, lambda: _password(password_file), where=str(key))
    if mode & 0o007:
        raise NotPermitted(f"secret key {key}", seen="open to everybody", fix=f"chmod 600 {key}")
    signed = sign_bundle(bundle, secret, datetime.now(timezone.utc))
    click.echo(f"{bundle / SIGNATURE}: key {signed.key}: {signed.comment}")


def _password(file: Path | None, *, confirm: bool = False) -> str:
    """Return the first line of `file`; without one it is asked for. Raises UsageError where nobody can answer."""
    from agent.smallfile import read_small

    if file is not None:
        raw, _ = read_small(file, what=f"password file {file}", max_bytes=_PASSWORD_BYTES)
        try:
            return raw.decode().split("\n", 1)[0].removesuffix("\r")
        except UnicodeDecodeError:
            raise UsageError(
                f"password file {file} is not UTF-8", fix="write the password in UTF-8"
            ) from None
    if not sys.stdin.isatty():
        raise UsageError("nobody is there to be asked for the password", fix="give --password-file FILE")
    answer: str = click.prompt("Password of the key", hide_input=True, confirmation_prompt=confirm, err=True)
    return answer
