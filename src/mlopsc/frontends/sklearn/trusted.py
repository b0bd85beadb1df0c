"""Which types a skops file may hold, and a check of what they index with.

skops itself vouches for scikit-learn's public estimators, NumPy's arrays and the like. Here is what
it leaves to its callers: types of scikit-learn's own that fitted models consist of. Everything else
is refused by name, functions above all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from mlopsc.errors import SourceError

_NODES = "its arrays hold indices, which are checked below before the model runs"
_NEIGHBOURS = "its arrays hold indices; a wrong one can crash the worker, which is contained"
_DATA = "it holds numbers and other trusted objects, and does nothing when it is made"
_FUNCTION = "a function of scikit-learn that is stored by its name and computes on arrays only"
# Each with the reason why it is trusted inside a worker without network and programs.
TRUSTED: Final = {
    "functools.partial": "it does nothing when it is made, and its function must be trusted, too",
    "numpy.dtype": _DATA,
    "scipy.sparse._csr.csr_matrix": _NEIGHBOURS,
    "sklearn._loss.loss.HalfTweedieLoss": _DATA,
    "sklearn._loss.loss.HalfTweedieLossIdentity": _DATA,
    "sklearn.calibration._CalibratedClassifier": _DATA,
    "sklearn.calibration._SigmoidCalibration": _DATA,
    "sklearn.cluster._bisect_k_means._BisectingTree": _DATA,
    "sklearn.cluster._kmeans._kmeans_single_lloyd": _FUNCTION,
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor": _NODES,
    "sklearn.feature_selection._univariate_selection.f_classif": _FUNCTION,
    "sklearn.feature_selection._univariate_selection.f_regression": _FUNCTION,
    "sklearn.feature_selection._univariate_selection.chi2": _FUNCTION,
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace": _DATA,
    "sklearn.gaussian_process.kernels.CompoundKernel": _DATA,
    "sklearn.gaussian_process.kernels.ConstantKernel": _DATA,
    "sklearn.gaussian_process.kernels.DotProduct": _DATA,
    "sklearn.gaussian_process.kernels.ExpSineSquared": _DATA,
    "sklearn.gaussian_process.kernels.Exponentiation": _DATA,
    "sklearn.gaussian_process.kernels.Matern": _DATA,
    "sklearn.gaussian_process.kernels.Product": _DATA,
    "sklearn.gaussian_process.kernels.RBF": _DATA,
    "sklearn.gaussian_process.kernels.RationalQuadratic": _DATA,
    "sklearn.gaussian_process.kernels.Sum": _DATA,
    "sklearn.gaussian_process.kernels.WhiteKernel": _DATA,
    "sklearn.metrics._dist_metrics.EuclideanDistance": _DATA,
    "sklearn.metrics._dist_metrics.EuclideanDistance32": _DATA,
    "sklearn.metrics._dist_metrics.EuclideanDistance64": _DATA,
    "sklearn.metrics._dist_metrics.ManhattanDistance": _DATA,
    "sklearn.metrics._dist_metrics.ManhattanDistance64": _DATA,
    "sklearn.metrics._dist_metrics.MinkowskiDistance": _DATA,
    "sklearn.metrics._dist_metrics.MinkowskiDistance64": _DATA,
    "sklearn.neighbors._ball_tree.BallTree": _NEIGHBOURS,
    "sklearn.neighbors._ball_tree.BallTree64": _NEIGHBOURS,
    "sklearn.neighbors._kd_tree.KDTree": _NEIGHBOURS,
    "sklearn.neighbors._kd_tree.KDTree64": _NEIGHBOURS,
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer": _DATA,
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer": _DATA,
    "sklearn.tree._tree.Tree": _NODES,
    "sklearn.utils._bunch.Bunch": _DATA,
    "sklearn.utils.validation.check_array": _FUNCTION,
}


def check_indices(model: object) -> None:
    """Check that the trees of a loaded model refer only to nodes and features that are there.

    scikit-learn follows these indices without looking.

    Raises:
        SourceError: One does not.
    """
    for part in parts(model):
        kind = type(part).__name__
        if kind == "Tree":
            _check_tree(part)
        elif kind == "TreePredictor":
            _check_predictor(part)


def _check_tree(tree: Any) -> None:
    count = int(tree.node_count)
    inner = tree.children_left != -1
    numbers = np.arange(count)
    for name in ("children_left", "children_right"):
        children = getattr(tree, name)[inner]
        _within(name, children, numbers[inner] + 1, count)
    _within("feature", tree.feature[inner], 0, int(tree.n_features))
    if len(tree.value) != count:
        raise SourceError(f"a tree has {count} nodes and {len(tree.value)} values")


def _check_predictor(tree: Any) -> None:
    nodes = tree.nodes
    inner = nodes["is_leaf"] == 0
    numbers = np.arange(len(nodes))
    for name in ("left", "right"):
        _within(name, nodes[name][inner].astype(np.int64), numbers[inner] + 1, len(nodes))
    _within("feature_idx", nodes["feature_idx"][inner].astype(np.int64), 0, 1 << 20)
    sets = inner & (nodes["is_categorical"] != 0)
    places = nodes["bitset_idx"][sets].astype(np.int64)
    _within("bitset_idx", places, 0, len(tree.raw_left_cat_bitsets))


def _within(name: str, values: Any, low: Any, high: int) -> None:
    wrong = (values < low) | (values >= high)
    if wrong.any():
        raise SourceError(
            f"the file is damaged: a tree has {name} {values[wrong][0]}, out of its range below "
            f"{high}",
            hint="save the model again",
        )


def parts(model: object) -> Iterator[object]:
    """Yield ``model`` and the objects that it consists of, each once."""
    seen: set[int] = set()
    waiting: list[object] = [model]
    while waiting:
        part = waiting.pop()
        if id(part) in seen or isinstance(part, (str, bytes, int, float, type(None))):
            continue
        seen.add(id(part))
        yield part
        if isinstance(part, dict):
            waiting.extend(part.values())
        elif isinstance(part, (list, tuple, set)):
            waiting.extend(part)
        elif isinstance(part, np.ndarray):
            waiting.extend(part.ravel().tolist() if part.dtype == object else ())
        else:
            waiting.extend(getattr(part, "__dict__", {}).values())
