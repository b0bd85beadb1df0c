"""Models of TFLite: the shared ones of MLPerf Tiny, and small ones that are converted here."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matrix import EVERYWHERE, HOST, Case, Source
from support import SHARED_MODELS

SHAPE = (12, 12, 3)


def _shared(name: str, folder: Path) -> Source:
    del folder
    return Source(SHARED_MODELS / "mlperf-tiny" / f"{name}.tflite")


def _network() -> Any:
    from mlopsc.frontends.tensorflow.library import import_tensorflow

    tf = import_tensorflow()
    tf.keras.utils.set_random_seed(7)
    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            layers.Input(SHAPE, name="image"),
            layers.Conv2D(8, 3, strides=2, padding="same", activation="relu"),
            layers.DepthwiseConv2D(3, padding="same", activation="relu6"),
            layers.Conv2D(12, 1, activation="relu"),
            layers.MaxPooling2D(2),
            layers.GlobalAveragePooling2D(),
            layers.Dense(5, activation="softmax", name="classes"),
        ]
    )


def _samples() -> Any:
    rng = np.random.default_rng(7)
    return [[rng.random((1, *SHAPE), np.float32)] for _ in range(20)]


def _float(converter: Any, tf: Any) -> None:
    del converter, tf


def _int8(converter: Any, tf: Any) -> None:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = _samples
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8


def _uint8_edges(converter: Any, tf: Any) -> None:
    _int8(converter, tf)
    converter.inference_input_type = tf.uint8
    converter.inference_output_type = tf.uint8


def _float_edges(converter: Any, tf: Any) -> None:
    _int8(converter, tf)
    converter.inference_input_type = tf.float32
    converter.inference_output_type = tf.float32


def _weights(converter: Any, tf: Any) -> None:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]


def _float16(converter: Any, tf: Any) -> None:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]


def _converted(options: Callable[[Any, Any], None], folder: Path) -> Source:
    from mlopsc.frontends.tensorflow.library import import_tensorflow

    tf = import_tensorflow()
    converter = tf.lite.TFLiteConverter.from_keras_model(_network())
    options(converter, tf)
    (folder / "net.tflite").write_bytes(converter.convert())
    return Source(folder / "net.tflite")


def _small(name: str, family: str, options: Callable[[Any, Any], None]) -> Case:
    make = functools.partial(_converted, options)
    return Case(f"tflite_{name}", "tflite", family, make, EVERYWHERE)


def _trained(name: str, family: str, targets: tuple[str, ...]) -> Case:
    make = functools.partial(_shared, name)
    return Case(f"tflite_{name}_shared", "tflite", family, make, targets, shared=True)


CASES = (
    _small("float", "convolutional network", _float),
    _small("int8", "int8 convolutional network", _int8),
    _small("uint8_edges", "int8 convolutional network, uint8 inputs and outputs", _uint8_edges),
    _small("float_edges", "int8 convolutional network, float inputs and outputs", _float_edges),
    _small("int8_weights", "int8 weights, float activations", _weights),
    _small("float16", "float16 weights", _float16),
    _trained("ad01_fp32", "autoencoder", HOST),
    _trained("ad01_int8", "int8 autoencoder", EVERYWHERE),
    _trained("kws_fp32", "keyword spotting", HOST),
    _trained("kws_int8", "int8 keyword spotting", EVERYWHERE),
    _trained("resnet8_fp32", "image classification", HOST),
    _trained("resnet8_int8", "int8 image classification", EVERYWHERE),
    _trained("vww_fp32", "visual wake words", HOST),
    _trained("vww_int8", "int8 visual wake words", EVERYWHERE),
)
