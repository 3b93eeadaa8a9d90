"""What the role reckons on the controller: the text of config.toml, boards, releases, bundles."""

import hashlib
import io
import json
import re
import zipfile
from pathlib import Path

import tomllib

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_NAME = re.compile(r"[A-Za-z0-9._+]+-[0-9a-f]{12}")
_MAX_MANIFEST_BYTES = 1 << 20
_OUTSIDE = {"broker": (0, 69), "camera ": (0, 66, 69, 77), "clock": (0,), "load": (0,)}
"""Rows of `edge-agent check` about the world around the device, with the codes that are no setting's fault."""
_FIGURES = ("version", "verdict", "reasons", "fps", "infer_ms", "age_ms", "model")


def to_toml(config):
    """Return the mapping as TOML; what is None or empty is left out at the top. Raises ValueError."""
    chosen = {key: value for key, value in config.items() if value is not None and value not in ("", {}, [])}
    return "# Written by Ansible: change the inventory instead.\n" + _table(chosen, ())


def _table(table, path):
    plain = {key: value for key, value in table.items() if not _is_tables(value)}
    text = "".join(f"{_key(key)} = {_value(value)}\n" for key, value in plain.items())
    for key, value in table.items():
        where = (*path, _key(key))
        if isinstance(value, dict):
            text += f"\n[{'.'.join(where)}]\n{_table(value, where)}"
        elif _is_tables(value):
            text += "".join(f"\n[[{'.'.join(where)}]]\n{_table(each, where)}" for each in value)
    return text


def _is_tables(value):
    return isinstance(value, dict) or (
        isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)
    )


def _key(key):
    return str(key) if _BARE_KEY.fullmatch(str(key)) else _value(str(key))


def _value(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_value, value))}]"
    raise ValueError(
        f"not a value of the configuration: {value!r}; give text, a number, true, false or a list"
    )


def board_of(seen, boards):
    """Return which of `boards`, "pc" or "unknown" a device is: `seen` is what files/look.py has told."""
    for name, entries in boards.items():
        if set(entries) & set(seen["compatible"]):
            return name
    return "pc" if seen["machine"] in {"x86_64", "amd64"} and not seen["compatible"] else "unknown"


def read_release(folder):
    """Return what release.toml in `folder` says. Raises ValueError when that is no release."""
    path = Path(str(folder)) / "release.toml"
    try:
        release = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        fix = "set edge_agent_release to a folder that `edge-agent fleet pack` has made"
        raise ValueError(f"no release in {folder}: {error}; {fix}") from None
    if not _NAME.fullmatch(str(release.get("name"))):
        raise ValueError(
            f"{path}: name {release.get('name')!r}; it must be a version, -, 12 hexadecimal digits"
        )
    return release


def bundle_sha(path):
    """Return the name of a model in the store, the SHA-256 of its model.toml: of a folder or a zip of one."""
    place = Path(str(path))
    try:
        if place.is_dir():
            return hashlib.sha256((place / "model.toml").read_bytes()).hexdigest()
        with zipfile.ZipFile(io.BytesIO(place.read_bytes())) as file:
            (name,) = [each for each in file.namelist() if re.fullmatch(r"(?:[^/]+/)?model\.toml", each)]
            with file.open(name) as manifest:
                return hashlib.sha256(manifest.read(_MAX_MANIFEST_BYTES)).hexdigest()
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"no model bundle: {path}: {error}; give a folder or a zip with model.toml"
        ) from None


def current_model(listing):
    """Return the sha of the model that the store has current, "" for the factory's."""
    return listing.get("current") or ""


def check_faults(report, how):
    """Return the faults of `edge-agent check --json`, one line each; `how` "config" leaves out the world around."""
    return [
        f"{row['what']}: {row['seen']}" + (f"; {row['fix']}" if row["fix"] else "")
        for row in report["findings"]
        if row["state"] == "fault" and (how == "strict" or not _is_outside(row))
    ]


def _is_outside(row):
    return any(
        row["what"].startswith(what) and row.get("code", 0) in codes for what, codes in _OUTSIDE.items()
    )


def figures(text):
    """Return what the gate compares of a status as JSON; {} when it is none."""
    status = as_object(text)
    return {key: status[key] for key in _FIGURES if key in status}


def as_object(text):
    """Return the JSON object that a program has printed; {} when it is none."""
    try:
        found = json.loads(str(text))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def reason(result):
    """Return why a task failed: what its program said last, else Ansible's own word."""
    said = [line for line in str(result.get("stderr") or "").splitlines() if line.strip()]
    return said[-1].strip() if said else result.get("msg") or "a task failed, see above"


def beyond(items, number):
    """Return the items after the first `number`."""
    return list(items)[max(0, number) :]


class FilterModule:
    """The filters, by the names that tasks use."""

    def filters(self):
        """Return them."""
        functions = (
            to_toml,
            board_of,
            read_release,
            bundle_sha,
            current_model,
            check_faults,
            figures,
            reason,
            beyond,
        )
        named = {function.__name__: function for function in functions} | {"object": as_object}
        return {f"edge_agent_{name}": function for name, function in named.items()}
