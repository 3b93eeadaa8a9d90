"""Operators in groups, the tail, and how much work they are."""

from __future__ import annotations

import pytest

from calibration.quantize.groups import groups_of, int8_macs, names_of, tail_of, work_of
from tests.unit.calibration.quantize.graphs import SILU, network


def test_a_convolution_takes_what_follows_it() -> None:
    """An activation belongs to the convolution before it; the last join to the last convolution."""
    groups = [(group.name, names_of(SILU, group.operators)) for group in groups_of(SILU)]
    assert groups == [
        ("a", ("a", "gate", "silu")),
        ("boxes", ("boxes",)),
        ("logits", ("logits", "scores", "joined", "out")),
    ]


def test_every_operator_is_in_one_group() -> None:
    """Groups divide the network."""
    members = [n for group in groups_of(SILU) for n in group.operators]
    assert sorted(members) == list(range(len(SILU.operators)))


def test_what_comes_before_the_first_convolution_belongs_to_it() -> None:
    """Padding of the input is quantized with the convolution that needs it."""
    graph = network(("padded", "PAD", ("image",), 0), ("a", "CONV_2D", ("padded",), 8), outputs=("a",))
    assert [group.operators for group in groups_of(graph)] == [(0, 1)]


def test_without_weights_each_operator_is_a_group() -> None:
    """A network of nothing but arithmetic can be searched too."""
    graph = network(("b", "ADD", ("x", "y"), 0), ("c", "MUL", ("b", "x"), 0), outputs=("c",))
    assert [group.operators for group in groups_of(graph)] == [(0,), (1,)]


def test_the_tail_only_puts_results_together() -> None:
    """It ends at the first operator that computes."""
    assert names_of(SILU, tail_of(SILU)) == ("joined", "out")


def test_a_join_that_is_read_again_is_no_tail() -> None:
    """A concatenation in the middle of the network stays in INT8."""
    graph = network(("j", "CONCATENATION", ("x", "y"), 0), ("c", "CONV_2D", ("j",), 8), outputs=("c",))
    assert tail_of(graph) == frozenset()


def test_the_share_of_multiplications_in_int8() -> None:
    """It counts multiplications, not operators."""
    assert int8_macs(SILU, []) == 1.0
    assert int8_macs(SILU, [0, 1, 2]) == pytest.approx(0.5)


def test_more_operators_are_more_work() -> None:
    """Work grows with each operator, and counts none twice."""
    assert 0 < work_of(SILU, [1]) < work_of(SILU, [1, 0]) == work_of(SILU, [0, 1, 1])


def test_going_to_float_and_back_is_work() -> None:
    """One island of two neighbours costs less than the two apart."""
    together, apart = work_of(SILU, [0, 1, 2]), work_of(SILU, [0, 2])
    assert together - apart < work_of(SILU, [1])
