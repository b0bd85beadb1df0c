"""SavedModels, frozen graphs and functions of TensorFlow, made here with fixed seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matrix import Case, Source
from support import SHARED_MODELS

SEED = 11


def _tensorflow() -> Any:
    from mlopsc.frontends.tensorflow.library import import_tensorflow

    return import_tensorflow()


def _array(rng: np.random.Generator, *shape: int) -> Any:
    return rng.normal(0, 0.4, shape).astype(np.float32)


def _exported(folder: Path) -> Source:
    """What Keras's own ``export`` writes for serving."""
    from cases_keras import _keras, _residual, _stir

    _stir(_residual(_keras())).export(folder / "served", verbose=False)
    return Source(folder / "served")


def _signatures(folder: Path) -> Source:
    """A module with two signatures, of which the second is chosen; a loop in it."""
    tf = _tensorflow()
    rng = np.random.default_rng(SEED)

    class Two(tf.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.weights = tf.Variable(_array(rng, 6, 6), name="weights")
            self.bias = tf.Variable(_array(rng, 6), name="bias")

        @tf.function(input_signature=[tf.TensorSpec((None, 6), name="x")])  # type: ignore[misc]
        def score(self, x: Any) -> Any:
            return {"score": tf.reduce_sum(x * self.bias, axis=-1)}

        @tf.function(input_signature=[tf.TensorSpec((None, 6), name="x")])  # type: ignore[misc]
        def settle(self, x: Any) -> Any:
            for _ in tf.range(4):
                x = tf.tanh(tf.matmul(x, self.weights) + self.bias)
            return {"state": x, "norm": tf.norm(x, axis=-1)}

    module = Two()
    signatures = {"score": module.score, "settle": module.settle}
    tf.saved_model.save(module, str(folder / "two"), signatures=signatures)
    return Source(folder / "two", {"signature": "settle"})


def _frozen(folder: Path) -> Source:
    """A graph of TensorFlow 1: fused batch normalisation, LRN, leaky ReLU, concatenation."""
    tf = _tensorflow()
    v1 = tf.compat.v1
    rng = np.random.default_rng(SEED)
    with tf.Graph().as_default() as graph:
        image = v1.placeholder(tf.float32, (None, 14, 14, 3), name="image")
        x = tf.nn.conv2d(image, _array(rng, 3, 3, 3, 8), 2, "SAME")
        x = tf.nn.bias_add(x, _array(rng, 8))
        x, _, _ = v1.nn.fused_batch_norm(
            x, 1 + _array(rng, 8) / 4, _array(rng, 8), _array(rng, 8), 1 + _array(rng, 8) ** 2,
            is_training=False,
        )  # fmt: skip
        x = tf.nn.local_response_normalization(tf.nn.relu6(x), 2)
        y = tf.nn.depthwise_conv2d(x, _array(rng, 3, 3, 8, 1), (1, 1, 1, 1), "SAME")
        x = tf.concat([x, tf.nn.leaky_relu(y)], axis=-1)
        x = tf.nn.avg_pool2d(x, 3, 2, "SAME")
        x = tf.reshape(x, (tf.shape(x)[0], -1))
        x = tf.matmul(x, _array(rng, 4 * 4 * 16, 4))
        tf.nn.softmax(x, name="scores")
    path = folder / "graph.pb"
    path.write_bytes(graph.as_graph_def().SerializeToString())
    return Source(path)


def _old_style(folder: Path) -> Source:
    """A SavedModel as TensorFlow 1 writes it: variables in a session."""
    tf = _tensorflow()
    v1 = tf.compat.v1
    rng = np.random.default_rng(SEED)
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, (None, 8), name="x")
        first = v1.get_variable("first", initializer=_array(rng, 8, 10), use_resource=False)
        last = v1.get_variable("last", initializer=_array(rng, 10, 3), use_resource=True)
        y = tf.nn.log_softmax(tf.matmul(tf.nn.elu(tf.matmul(x, first)), last))
        best = tf.argmax(y, axis=-1, output_type=tf.int32)
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(
            session, str(folder / "old"), {"x": x}, {"logarithms": y, "best": best}
        )
    return Source(folder / "old")


def _function(folder: Path) -> Source:
    """A function in memory."""
    del folder
    tf = _tensorflow()
    filters = tf.constant(_array(np.random.default_rng(SEED), 4, 2, 5))

    @tf.function  # type: ignore[misc]
    def smooth(signal: Any, gain: Any) -> Any:
        y = tf.nn.conv1d(signal, filters, 1, "SAME")
        return tf.reduce_max(tf.cumsum(y, axis=1) * gain, axis=1)

    return Source(smooth, {"example": (np.zeros((1, 12, 2), np.float32), np.float32(1.5))})


def _kws(folder: Path) -> Source:
    """Keyword spotting of MLPerf Tiny, saved by TensorFlow 2.3 with its optimizer."""
    del folder
    return Source(SHARED_MODELS / "mlperf-tiny" / "kws_saved_model")


CASES = (
    Case("tf_exported", "tensorflow", "SavedModel that Keras exports", _exported),
    Case("tf_signatures", "tensorflow", "SavedModel with several signatures", _signatures),
    Case("tf_old_style", "tensorflow", "SavedModel of TensorFlow 1", _old_style),
    Case("tf_frozen", "tensorflow", "frozen graph (CNN)", _frozen),
    Case("tf_function", "tensorflow", "function in memory", _function),
    Case("tf_kws", "tensorflow", "SavedModel of TensorFlow 2.3", _kws, shared=True),
)
