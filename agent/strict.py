"""TOML read strictly into frozen structs: a fault names the key, the value seen and what was meant."""

from __future__ import annotations

import difflib
import re
import sys
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

import msgspec
import tomli_w

from agent.errors import AgentError
from agent.urls import redact

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Sequence

S = TypeVar("S", bound=msgspec.Struct)

SHOWN_CHARS = 60
TEXT_CHARS = 4096
"""Longest text that a key may have: the longest path of Linux."""
KEY_DOTS = 64
"""Most dots in one key or number: tomllib takes quadratic time for a key of many parts."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# A password may hold blanks and line ends, where `redact` stops; a mistyped URL may lack its "//".
_LOGIN = re.compile(r"(?s)(?<=://).*@|^(?!\w+://).*@")
_KINDS = {
    "float": "a number",
    "int": "a whole number",
    "str": "text in quotes",
    "bool": "true or false",
    "array": "a list in [ ]",
    "object": "a table",
}


def parse_toml(text: bytes, *, where: str, fault: type[AgentError]) -> dict[str, Any]:
    """Return the tables of `text`, TOML in UTF-8, with or without a BOM. Raises `fault`."""
    try:
        plain = text.decode("utf-8-sig")
        if any(part.count(".") > KEY_DOTS for part in re.split(r"[=,\[\]{}\n]|#.*", plain)):
            raise ValueError(f"a key has more than {KEY_DOTS} dots")
        return tomllib.loads(plain)
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise fault(
            f"{where} is not TOML", seen=f"line {line} is not UTF-8", fix="save the file as UTF-8"
        ) from None
    except RecursionError:
        raise fault(f"{where} is not TOML", seen="nested too deep", fix="correct the file") from None
    except ValueError as error:
        raise fault(f"{where} is not TOML", seen=shorten(str(error), 150), fix="correct the file") from None


def to_struct(tree: object, kind: type[S], *, where: str, fault: type[AgentError]) -> S:
    """Return `tree` as a `kind`, whose structs may hold structs, optional ones and tuples of them.

    Raises `fault` for the first key that is unknown, missing or of the wrong type, and for what the structs
    themselves refuse. They name `section.key`; here that becomes the path from the root, with the names of the
    tables on the way, `camera[1].sampling.hz (yard)`; of a single [[camera]] without its number.
    """
    try:
        return _struct(tree, kind, _Place(where, fault))
    except RecursionError:
        raise fault(where, seen="nested too deep", fix="correct the file") from None


def dump_toml(struct: msgspec.Struct, *, first: Sequence[str] = ()) -> bytes:
    """Return `struct` as TOML, the keys `first` before others; None is left out."""
    tree = _without_none(msgspec.to_builtins(struct))
    order = sorted(tree, key=lambda key: key not in first)
    return _join_lists(tomli_w.dumps({key: tree[key] for key in order})).encode()


def suggestion(word: str, known: Sequence[str]) -> str:
    """Return "did you mean" for a word that is close to a known one, else all that are known."""
    close = difflib.get_close_matches(word[:SHOWN_CHARS].lower(), known, n=1)
    return f'did you mean "{close[0]}"?' if close else f"known: {', '.join(known)}"


def shown(value: object) -> str:
    """Return `value` for a message: short, in one line, without logins and without what is inside of tables."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and abs(value) >= 10**SHOWN_CHARS:
        return f"a number of {value.bit_length()} bits"
    return shorten(redact(_LOGIN.sub("***@", str(value))))


def shorten(text: str, chars: int = SHOWN_CHARS) -> str:
    """Return `text` in one printable line of at most `chars` and an ellipsis."""
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[: chars + 1])
    return line if len(line) <= chars else f"{line[:chars]}..."


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the file we are: `keys` from the root, `names` of the tables on the way."""

    where: str
    fault: type[AgentError]
    keys: str = ""
    names: tuple[str, ...] = ()

    def at(self, key: str) -> _Place:
        plain = key
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", key):
            plain = '"' + shown(key).replace('"', '\\"') + '"'
        return self.inside(f".{plain}")

    def item(self, number: str, tree: object) -> _Place:
        name = tree.get("name") if isinstance(tree, dict) else None
        named = (shown(name),) if isinstance(name, str) and name else ()
        return _Place(self.where, self.fault, f"{self.keys}{number}", self.names + named)

    def inside(self, path: str) -> _Place:
        keys = f"{self.keys}{path}" if self.keys else path[1:]
        return _Place(self.where, self.fault, keys, self.names)

    def error(self, what: str = "", *, seen: object = None, fix: str) -> AgentError:
        names = f" ({', '.join(self.names)})" if self.names else ""
        where = f"{self.where}: {what}{self.keys}{names}" if self.keys else self.where
        return self.fault(where, seen=seen, fix=fix)


def _struct(tree: object, kind: type[S], place: _Place) -> S:
    if not isinstance(tree, dict):
        raise place.error(seen=shown(tree), fix=f"must be a table: [{place.keys}]")
    types = _types(kind)
    parts = {}
    for key, value in tree.items():
        here = place.at(key)
        if key not in types:
            raise here.error("unknown key: ", fix=suggestion(key, list(types)))
        parts[key] = _part(value, types[key], here)
    try:
        return msgspec.convert(parts, kind)
    except AgentError as error:
        _, dot, key = error.what.partition(".")
        here = place.inside(f".{key if dot and place.keys else error.what}")
        seen = None if error.seen is None else shown(error.seen)
        raise here.error(seen=seen, fix=error.fix) from None
    except msgspec.ValidationError as error:
        raise _wrong_type(str(error), tree, kind, place) from None


def _part(value: object, kind: Any, place: _Place) -> object:
    """Return what a struct's field is made of: structs in it are made here, where their path is known."""
    struct, many = _struct_in(kind)
    if struct is None:
        _check_texts(value, place)
        return value
    if not many:
        return _struct(value, struct, place)
    if not isinstance(value, list):
        raise place.error(seen=shown(value), fix=f"must be a list of tables: [[{place.keys}]]")
    numbers = [f"[{i}]" for i in range(len(value))] if len(value) > 1 else [""]
    return tuple(_struct(each, struct, place.item(n, each)) for n, each in zip(numbers, value, strict=False))


def _struct_in(kind: Any) -> tuple[type[msgspec.Struct] | None, bool]:
    """Return the struct in the type of a field, `S`, `S | None` or `tuple[S, ...]`, and whether it is many."""
    many = get_origin(kind) is tuple
    for each in get_args(kind) or (kind,):
        if isinstance(each, type) and issubclass(each, msgspec.Struct):
            return each, many
    return None, False


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(each) for key, each in value.items() if each is not None}
    return [_without_none(each) for each in value] if isinstance(value, (list, tuple)) else value


def _join_lists(text: str) -> str:
    """Put each list of tomli_w's output, one element a line, into one line."""
    lines: list[str] = []
    within = False
    for line in text.removesuffix("\n").split("\n"):
        if not within:
            lines.append(line)
            within = line.endswith(" = [")
        elif line.lstrip().startswith("]"):
            lines[-1] = lines[-1].removesuffix(",") + line.strip()
            within = line != "]"
        else:
            lines[-1] += ("" if lines[-1].endswith("[") else " ") + line.strip()
    return "\n".join(lines) + "\n"


def _check_texts(value: object, place: _Place) -> None:
    if isinstance(value, list):
        for i, each in enumerate(value):
            _check_texts(each, place.inside(f"[{i}]"))
    elif isinstance(value, str) and len(value) > TEXT_CHARS:
        raise place.error(seen=f"{len(value)} characters", fix=f"at most {TEXT_CHARS}")
    elif isinstance(value, str) and _CONTROL.search(value):
        raise place.error(seen=shown(value), fix="take the control characters out")


def _wrong_type(text: str, tree: dict[str, Any], kind: type[msgspec.Struct], place: _Place) -> AgentError:
    """Return the fault for msgspec's `text`, which ends in " - at `$.key[3]`" where it knows the place."""
    message, _, path = text.rstrip("`").partition(" - at `$.")
    if missing := re.fullmatch(r"Object missing required field `(\w+)", message):
        here, (_, many) = place.at(missing[1]), _struct_in(_types(kind)[missing[1]])
        return place.error(seen=text, fix=f"add [[{here.keys}]]" if many else f"add {here.keys} = ...")
    here, name = place.inside(f".{path.partition('[...]')[0]}"), re.split(r"[.\[]", path)[0]
    value = tree[name]
    if path.endswith("[...]"):  # msgspec does not tell which
        key = next(key for key in value if not _fits({key: value[key]}, _types(kind)[name]))
        here, value = here.at(key), value[key]
    for number in re.findall(r"\[(\d+)\]", path):
        value = value[int(number)]
    if message.startswith("Invalid enum"):
        fix = suggestion(str(value), _choices(_types(kind)[name]))
        return here.error(seen=f"Invalid enum value '{shown(value)}'", fix=fix)
    return here.error(seen=f"{message}: {shown(value)}", fix=_write(message))


def _fits(value: object, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


@cache
def _types(kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {field.name: field.type for field in msgspec.structs.fields(kind)}


def _choices(kind: Any) -> list[str]:
    options = get_args(kind)
    return list(options) if get_origin(kind) is Literal else [c for each in options for c in _choices(each)]


def _write(message: str) -> str:
    """Return what to write for msgspec's "Expected `float | null`, got `str`"."""
    wanted = re.match(r"Expected `(\w+)", message)
    return f"write {_KINDS.get(wanted[1], 'another value')}" if wanted else "write another value"
