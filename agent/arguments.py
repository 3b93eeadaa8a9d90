"""The arguments of an operation, read as a struct; what is wrong with them is told in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec import inspect

from agent.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = TypeVar("Kind", bound=msgspec.Struct)

_MOST_CHARS = 64
_WORDS = {
    inspect.BoolType: "true or false",
    inspect.IntType: "a whole number",
    inspect.FloatType: "a number",
    inspect.NoneType: "null",
}


def read_arguments(op: str, args: Mapping[str, Any], kind: type[Kind]) -> Kind:
    """Return `args` of the operation `op` as `kind`. Raises UsageError, and what `kind` itself raises."""
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    for name in args:
        if name not in fields:
            fix = f"there is {', '.join(fields)}" if fields else "it takes none"
            raise UsageError(f"{op}: unknown argument", seen=shown(name), fix=fix)
    for name, field in fields.items():
        if name in args:
            _check(f"{op}: {name}", args[name], field.type)
        elif field.required:
            raise UsageError(f"{op}: {name}", seen="nothing", fix=f"give {wanted(field.type)}")
    return msgspec.convert(dict(args), type=kind)


def shown(value: object) -> str:
    """Return `value` as one short line that any terminal and log can show."""
    try:
        text = repr(value)
    except ValueError:  # more digits than Python writes
        return "a number of thousands of digits"
    plain = text.encode(errors="backslashreplace").decode()
    return plain if len(plain) <= _MOST_CHARS else f"{plain[:_MOST_CHARS]}..."


def wanted(kind: Any) -> str:
    """Return in words what a field of the type `kind` takes."""
    return _words(inspect.type_info(kind))


def _words(told: inspect.Type) -> str:
    if isinstance(told, inspect.UnionType):
        return " or ".join(_words(each) for each in told.types)
    if isinstance(told, inspect.LiteralType):
        return f"one of {', '.join(map(str, told.values))}"
    if isinstance(told, inspect.StrType):
        like = f" like {told.pattern}" if told.pattern else ""
        return f"text{like}" + (f" of {told.max_length} characters at most" if told.max_length else "")
    return _WORDS[type(told)]


def _check(what: str, value: object, kind: Any) -> None:
    try:
        msgspec.convert(value, type=kind)
        if isinstance(value, int) and abs(value) >> 63:
            raise OverflowError
    except (msgspec.ValidationError, ValueError, OverflowError):
        raise UsageError(what, seen=shown(value), fix=f"give {wanted(kind)}") from None
