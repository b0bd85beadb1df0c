"""``mlopsc.backend`` passes tests of ONNX's own suite, through the official interface."""

from __future__ import annotations

import warnings

import numpy as np
import onnx.backend.test.loader as loader
import onnx.backend.test.runner as runner
import pytest

import mlopsc.backend
from mlopsc.errors import UnsupportedOpError

# One test per family; benchmarks/onnx_suite.py runs all of them.
PASSING = (
    "test_add_bcast",
    "test_averagepool_2d_ceil",
    "test_batchnorm_epsilon",
    "test_celu",
    "test_conv_with_strides_and_asymmetric_padding",
    "test_gelu_tanh_1",
    "test_gemm_all_attributes",
    "test_layer_normalization_2d_axis1",
    "test_maxpool_2d_same_lower",
    "test_softmax_large_number",
    "test_transpose_all_permutations_3",
)
# These feed at run time what decides shapes; it is bound at compile time.
BOUND = (
    "test_constant_pad",
    "test_reshape_one_dim",
    "test_slice",
    "test_split_variable_parts_2d_opset18",
    "test_unsqueeze_axis_1",
)


@pytest.fixture(scope="module")
def cases() -> dict[str, runner.TestCase]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {case.name: case for case in loader.load_model_tests(kind="node")}


@pytest.mark.parametrize("name", [*PASSING, *BOUND])
def test_node_test_passes(cases: dict[str, runner.TestCase], name: str) -> None:
    case = cases[name]
    model = mlopsc.backend.prepare(case.model)
    for inputs, expected in case.data_sets:
        outputs = model.run(list(inputs))
        assert len(outputs) == len(expected)
        for got, want in zip(outputs, expected, strict=True):
            assert (got.dtype, got.shape) == (want.dtype, want.shape)
            np.testing.assert_allclose(got, want, rtol=case.rtol, atol=case.atol)
    assert bool(model.bound_inputs) == (name in BOUND)


def test_unsupported_operators_are_refused_when_prepared(
    cases: dict[str, runner.TestCase],
) -> None:
    with pytest.raises(UnsupportedOpError, match="StringNormalizer"):
        mlopsc.backend.prepare(cases["test_strnormalizer_nostopwords_nochangecase"].model)


def test_only_the_cpu_is_supported() -> None:
    assert mlopsc.backend.supports_device("CPU")
    assert not mlopsc.backend.supports_device("CUDA")
