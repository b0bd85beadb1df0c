"""Comparison with the reference: what counts as different, and by how much."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from mlopsc.conformance import compare
from mlopsc.schema.common import TensorSpec
from mlopsc.schema.conformance import ConformanceReport, OutputError

NAN, INF = float("nan"), float("inf")


def judge(got: Any, expected: Any, tolerance: float = 0.0, dtype: str = "float32") -> OutputError:
    """Compare one vector."""
    a, b = np.array(got, dtype), np.array(expected, dtype)
    return compare(TensorSpec(name="y", dtype=dtype, shape=a.shape), [a], [b], tolerance)


def test_equal_arrays_have_no_error() -> None:
    found = judge([1.5, -2.0, 0.0], [1.5, -2.0, 0.0])
    assert (found.max_absolute, found.max_relative, found.relative_to_max) == (0.0, 0.0, 0.0)
    assert found.max_ulp == 0
    assert found.first_differing is None
    assert found.first_inexact is None
    assert (found.name, found.dtype, found.tolerance) == ("y", "float32", 0.0)


def test_figures_of_a_difference() -> None:
    found = judge([1.0, 2.5, 4.0], [1.0, 2.0, 4.0], tolerance=1e-5)
    assert found.max_absolute == 0.5
    assert found.max_relative == 0.25  # of the element's own value
    assert found.relative_to_max == 0.125  # of the largest value
    assert found.first_differing == (0, 1)
    assert found.first_inexact == (0, 1)


def test_tolerance_is_relative_to_the_largest_value() -> None:
    # 0.005 is 0.5 % of its own element, but 5e-6 of the largest.
    assert judge([1000.0, 1.005], [1000.0, 1.0], 1e-5).first_differing is None
    assert judge([1000.0, 1.02], [1000.0, 1.0], 1e-5).first_differing == (0, 1)


def test_tolerance_is_relative_to_the_reference_and_not_to_what_was_computed() -> None:
    assert judge([1e9, 1.0], [1.0, 1.0], 0.1).first_differing == (0, 0)


def test_the_tolerance_itself_is_inside() -> None:
    assert judge([8.0, 1.0], [8.0, 2.0], 0.125).first_differing is None
    assert judge([8.0, 0.9999], [8.0, 2.0], 0.125).first_differing == (0, 1)


def test_largest_value_is_that_of_the_same_vector() -> None:
    spec = TensorSpec(name="y", dtype="float32", shape=(2,))
    large, small = np.float32([1000, 1]), np.float32([1, 1])
    off = np.float32([0, 0.005])
    found = compare(spec, [large + off, small + off], [large, small], 1e-5)
    assert found.first_differing == (1, 1)
    assert found.first_inexact == (0, 1)


def test_sign_of_the_largest_value_does_not_matter() -> None:
    assert judge([-1000.0, 1.005], [-1000.0, 1.0], 1e-5).first_differing is None


def test_inexact_but_tolerated_is_recorded() -> None:
    found = judge([1.0, np.nextafter(np.float32(1), np.float32(2))], [1.0, 1.0], 1e-5)
    assert found.first_differing is None
    assert found.first_inexact == (0, 1)
    assert found.max_ulp == 1


def test_nothing_is_tolerated_where_all_reference_values_are_zero() -> None:
    assert judge([0.0, 1e-30], [0.0, 0.0], 0.1).first_differing == (0, 1)


@pytest.mark.parametrize("tolerance", [0.0, 1e-5, 0.1])
@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (NAN, 1.0),
        (1.0, NAN),
        (NAN, INF),
        (INF, NAN),
        (INF, 1.0),
        (1.0, INF),
        (INF, -INF),
        (-INF, INF),
        (INF, 3.4e38),
        (3.4e38, INF),
    ],
)
def test_special_value_must_meet_the_same(got: float, expected: float, tolerance: float) -> None:
    found = judge([1.0, got], [1.0, expected], tolerance)
    assert found.first_differing == (0, 1)
    assert found.first_inexact == (0, 1)


@pytest.mark.parametrize("tolerance", [0.0, 1e-5])
def test_special_values_that_agree(tolerance: float) -> None:
    found = judge([NAN, INF, -INF, 1.0], [NAN, INF, -INF, 1.0], tolerance)
    assert found.first_differing is None
    assert found.first_inexact is None
    assert found.max_absolute == 0.0


def test_nan_of_another_payload_is_nan() -> None:
    quiet = np.array([0x7FC00000], np.uint32).view(np.float32)
    other = np.array([0xFFC12345], np.uint32).view(np.float32)
    assert judge(quiet, other).first_differing is None


def test_infinity_in_the_reference_does_not_loosen_the_tolerance() -> None:
    assert judge([INF, 2.0], [INF, 1.0], 1e-5).first_differing == (0, 1)


def test_nan_in_the_reference_does_not_loosen_the_tolerance() -> None:
    assert judge([NAN, 2.0], [NAN, 1.0], 1e-5).first_differing == (0, 1)


def test_only_special_values() -> None:
    assert judge([NAN, INF], [NAN, INF], 1e-5).first_differing is None


def test_signed_zeros_are_equal_under_a_tolerance() -> None:
    found = judge([-0.0, 1.0], [0.0, 1.0], 1e-5)
    assert found.first_differing is None
    assert found.max_absolute == 0.0
    assert found.max_ulp == 0


def test_signed_zeros_differ_where_all_bits_must_be_equal() -> None:
    found = judge([1.0, -0.0], [1.0, 0.0], 0.0)
    assert found.first_differing == (0, 1)


def test_signed_zeros_are_not_exact() -> None:
    assert judge([1.0, -0.0], [1.0, 0.0], 1e-5).first_inexact == (0, 1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("number", [0.0, 1.0, -1.0, 1e-40, 1.9999, -2.0, 1e30])
def test_neighbours_are_one_unit_apart(number: float, dtype: str) -> None:
    kind = np.dtype(dtype).type
    above = np.nextafter(kind(number), kind(np.inf))
    assert judge([above], [number], dtype=dtype).max_ulp == 1
    assert judge([number], [above], dtype=dtype).max_ulp == 1


def test_units_are_counted_across_zero() -> None:
    tiny = np.nextafter(np.float32(0), np.float32(1))
    assert judge([-tiny], [tiny]).max_ulp == 2


@pytest.mark.parametrize(("dtype", "steps"), [("float32", 0x7F7FFFFF), ("float64", 0x7FEF << 48)])
def test_units_between_extremes_do_not_overflow(dtype: str, steps: int) -> None:
    largest = float(np.finfo(dtype).max)
    found = judge([largest], [-largest / 2], dtype=dtype)
    assert found.max_ulp > steps
    assert found.first_differing == (0, 0)


@pytest.mark.parametrize(
    ("dtype", "got", "expected", "steps"),
    [
        ("int8", 127, -128, 255),
        ("uint8", 0, 255, 255),
        ("uint8", 7, 8, 1),
        ("int16", -32768, 32767, 65535),
        ("int32", -(2**31), 2**31 - 1, 2**32 - 1),
        ("uint32", 0, 2**32 - 1, 2**32 - 1),
        ("int64", -(2**63), 2**63 - 1, 2**64 - 1),
        ("int64", 2**53, 2**53 + 1, 1),
        ("uint64", 2**64 - 1, 0, 2**64 - 1),
        ("bool", True, False, 1),
        ("bool", False, True, 1),
    ],
)
def test_integers_must_be_equal(dtype: str, got: int, expected: int, steps: int) -> None:
    found = judge([0, got], [0, expected], dtype=dtype)
    assert found.max_ulp == steps
    assert found.max_absolute == float(steps)
    assert found.first_differing == (0, 1)
    assert found.first_inexact == (0, 1)
    assert judge([got], [got], dtype=dtype).first_differing is None


def test_integers_may_be_given_a_tolerance() -> None:
    assert judge([100, 51], [100, 50], 0.01, dtype="uint8").first_differing is None
    assert judge([100, 52], [100, 50], 0.01, dtype="uint8").first_differing == (0, 1)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "int64", "bool"])
def test_empty_arrays_agree(dtype: str) -> None:
    found = judge(np.zeros((0, 3)), np.zeros((0, 3)), dtype=dtype)
    assert found.first_differing is None
    assert found.max_absolute == 0.0


def test_no_vectors_agree() -> None:
    spec = TensorSpec(name="y", dtype="float32", shape=(1,))
    assert compare(spec, [], [], 0.0).first_differing is None


def test_scalars_are_compared() -> None:
    assert judge(1.0, 1.0).first_differing is None
    assert judge(1.0, 2.0).first_differing == (0, 0)


def test_index_is_flat_and_of_the_first_vector_that_differs() -> None:
    spec = TensorSpec(name="y", dtype="float32", shape=(2, 3))
    right = np.arange(6, dtype=np.float32).reshape(2, 3)
    wrong = right.copy()
    wrong[1, 0] = 9
    wrong[1, 2] = 9
    found = compare(spec, [right, wrong, wrong], [right, right, right], 0.0)
    assert found.first_differing == (1, 3)


def test_worst_figures_are_over_all_vectors() -> None:
    spec = TensorSpec(name="y", dtype="float32", shape=(1,))
    one, half, off = np.float32([1]), np.float32([1.5]), np.float32([1.25])
    found = compare(spec, [half, off], [one, one], 0.1)
    assert found.max_absolute == found.relative_to_max == 0.5


def test_missing_vectors_are_an_error_and_not_agreement() -> None:
    spec = TensorSpec(name="y", dtype="float32", shape=(1,))
    one = np.float32([1])
    with pytest.raises(ValueError, match="argument"):
        compare(spec, [one], [one, one], 0.0)


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize(("got", "expected"), [(10.0, 0.0), (1.7e308, -1.7e308), (INF, 1.0)])
def test_report_is_json_whatever_the_difference(got: float, expected: float) -> None:
    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is no JSON")

    report = ConformanceReport(
        package="m",
        target="t",
        model_json="sha256:" + "0" * 64,
        verdict="mismatch",
        runner="r",
        reference="o",
        reference_source="recorded",
        vectors=1,
        outputs=(judge([1.0, got], [1.0, expected], dtype="float64"),),
        labels=None,
        instructions=None,
    )
    json.loads(report.to_json(), parse_constant=refuse)
    assert ConformanceReport.model_validate_json(report.to_json()) == report
