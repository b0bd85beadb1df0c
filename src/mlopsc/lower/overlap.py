"""Tails of loops that are no multiple of their tile: the last tile overlaps the one before.

A split by a factor that does not divide the extent leaves a condition on every element, which keeps
registers and vectors from being used. Here the last tile starts earlier instead, so that it ends
with the axis: what both compute is computed twice, to the same bits. That is right wherever a block
writes nothing that it reads; rules ask ``accesses.may_be_in_place`` before they make such tiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from tvm import s_tir, tirx
from tvm.sym import Analyzer, detect_linear_equation
from tvm_ffi import structural_equal
from tvm_ffi.structural import structural_map, structural_walk

GUARDED: Final = "mlopsc.guarded"  # annotation of a block that keeps its conditions


def overlap_tails(function: Any) -> Any | None:
    """Return ``function`` without conditions on its blocks; None where one has another form."""
    failed = False

    def rewrite(realize: Any) -> Any:
        nonlocal failed
        values = list(realize.iter_values)
        conditions = list(_conditions(realize.predicate))
        if not conditions or GUARDED in realize.block.annotations:
            return realize
        for condition in conditions:
            replacement = _last_tile(condition)
            found = (
                []
                if replacement is None
                else [_replace(v, condition.a, replacement) for v in values]
            )
            if not any(hit for _, hit in found):
                failed = True
                return realize
            values = [value for value, _ in found]
        return s_tir.SBlockRealize(values, tirx.const(True, "bool"), realize.block)

    made = function.with_body(structural_map(function.body, [(s_tir.SBlockRealize, rewrite)]))
    return None if failed else made


def without_overlap(value: Any) -> Any:
    """Return the index of an axis as it would be if the last tile did not start earlier."""

    def first(node: Any) -> Any:
        return node.a if isinstance(node.b, tirx.IntImm) else node

    return structural_map(value, [(tirx.Min, first)])


def _conditions(predicate: Any) -> Iterator[Any]:
    if isinstance(predicate, tirx.And):
        yield from _conditions(predicate.a)
        yield from _conditions(predicate.b)
    elif not isinstance(predicate, tirx.IntImm):
        yield predicate


def _last_tile(condition: Any) -> Any | None:
    """Return ``min(o * f, extent - f) + i`` for the condition ``o * f + i < extent``."""
    if not isinstance(condition, tirx.LT) or not isinstance(condition.b, tirx.IntImm):
        return None
    variables: list[Any] = []
    structural_walk(condition.a, (tirx.Var, lambda v: variables.append(v)))
    unique = list({v.name: v for v in variables}.values())
    if len(unique) != len({id(v) for v in unique}) or not unique:
        return None
    found = detect_linear_equation(condition.a, unique)
    if not found or not all(isinstance(c, tirx.IntImm) for c in found):
        return None
    *factors, rest_of_it = (int(c) for c in found)
    if rest_of_it != 0 or min(factors) <= 0:
        return None
    factor = max(factors)
    outer = unique[factors.index(factor)]
    first = tirx.min(outer * factor, condition.b - factor)
    rest: Any = first
    for variable, c in zip(unique, factors, strict=True):
        if not variable.same_as(outer):
            rest = rest + (variable * c if c != 1 else variable)
    return rest


def _replace(value: Any, old: Any, new: Any) -> tuple[Any, bool]:
    """Return ``value`` with ``old`` replaced, and whether it was there."""
    old = Analyzer().simplify(old)
    hit = False

    def swap(node: Any) -> Any:
        nonlocal hit
        if not structural_equal(node, old):
            return node
        hit = True
        return new

    made = structural_map(Analyzer().simplify(value), [(type(old), swap)])
    return made, hit
