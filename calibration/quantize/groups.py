"""Which operators belong together: what is quantized, or left in float, as one. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from calibration.quantize.network import Network

_MOVING = frozenset({"CONCATENATION", "RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS", "PACK"})
_ELEMENT_COST, _MAC_COST, _CROSSING_COST = 1.0, 1.0 / 16, 2.0
"""How work counts: a value written, a multiplication, of which XNNPACK does many at once, a value converted."""


@dataclass(frozen=True, slots=True)
class Group:
    """A convolution (or the like) with what follows it up to the next one; operators by their numbers."""

    name: str
    kind: str
    operators: tuple[int, ...]


def groups_of(network: Network) -> tuple[Group, ...]:
    """Return all operators in groups, in order: each belongs to the last weighted operator before it.

    Those before the first weighted one belong to that; without any, each operator is a group.
    """
    weighted = [n for n, operator in enumerate(network.operators) if operator.weighted]
    home: dict[int, int] = {}
    for n, operator in enumerate(network.operators):
        sources = [home[network.producer[tensor]] for tensor in operator.inputs if tensor in network.producer]
        nearest = max(sources, default=weighted[0] if weighted else n)
        home[n] = n if operator.weighted or not weighted else nearest
    members: dict[int, list[int]] = {}
    for n, head in home.items():
        members.setdefault(head, []).append(n)
    return tuple(
        Group(network.operators[head].name, network.operators[head].kind, tuple(members[head]))
        for head in sorted(members)
    )


def tail_of(network: Network) -> frozenset[int]:
    """Return the last operators, those that only put results together.

    In INT8 they force one scale on all that they join, boxes and scores alike.
    """
    tail: set[int] = set()
    for n in reversed(range(len(network.operators))):
        operator = network.operators[n]
        readers = [reader for tensor in operator.outputs for reader in network.consumers.get(tensor, ())]
        if operator.kind in _MOVING and all(reader in tail for reader in readers):
            tail.add(n)
    return frozenset(tail)


def names_of(network: Network, operators: Iterable[int]) -> tuple[str, ...]:
    """Return the operators' names, in the order they run."""
    return tuple(network.operators[n].name for n in sorted(operators))


def int8_macs(network: Network, in_float: Iterable[int]) -> float:
    """Return the share 0..1 of the multiplications that run in INT8."""
    kept = sum(network.operators[n].macs for n in set(in_float))
    return 1.0 - kept / network.macs if network.macs else 0.0


def work_of(network: Network, operators: Iterable[int]) -> float:
    """Return how much work it is to leave `operators` in float, in values written; the same on every machine.

    Every tensor that goes from INT8 to float or back counts too.
    """
    kept = set(operators)
    total = 0.0
    for n, operator in enumerate(network.operators):
        written = sum(network.tensors[tensor].size for tensor in operator.outputs)
        if n in kept:
            total += _ELEMENT_COST * written + _MAC_COST * operator.macs
        readers = {reader for tensor in operator.outputs for reader in network.consumers.get(tensor, ())}
        if any((reader in kept) != (n in kept) for reader in readers):
            total += _CROSSING_COST * written
    return total
