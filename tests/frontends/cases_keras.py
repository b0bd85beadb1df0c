"""Models of Keras: made here, with fixed seeds, their statistics moved off the defaults."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matrix import Case, Source

SEED = 7


def _keras() -> Any:
    """Return Keras, with its random numbers at their beginning."""
    from mlopsc.frontends.tensorflow.library import import_tensorflow

    import_tensorflow()
    import keras

    keras.utils.set_random_seed(SEED)
    return keras


def _stir(model: Any) -> Any:
    """Give biases and statistics values that a wrong graph cannot get away with."""
    rng = np.random.default_rng(SEED)
    for weight in model.weights:
        name = weight.path.rpartition("/")[2]
        if name in ("beta", "bias", "moving_mean"):
            weight.assign(rng.normal(0, 0.3, weight.shape))
        elif name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    return model


def _saved(make: Callable[[Any], Any], **options: Any) -> Callable[[Path], Source]:
    """Return what makes a ``.keras`` file."""

    def source(folder: Path) -> Source:
        path = folder / "model.keras"
        _stir(make(_keras())).save(path)
        return Source(path, options)

    return source


def _dense(keras: Any) -> Any:
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((12,), name="features"),
            layers.Dense(24, activation="gelu"),
            layers.LayerNormalization(),
            layers.Dropout(0.3),
            layers.Dense(16, activation="swish"),
            layers.Dense(3, activation="softmax", name="scores"),
        ]
    )
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    return model


def _convolutions(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((16, 16, 3), name="image"),
            layers.Conv2D(8, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Conv2D(12, 3, strides=2, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.ZeroPadding2D(1),
            layers.Conv2D(12, 3, dilation_rate=2, activation="leaky_relu"),
            layers.Flatten(),
            layers.Dense(4, name="scores"),
        ]
    )


def _separable(keras: Any) -> Any:
    layers = keras.layers
    image = keras.Input((24, 24, 3), name="image")
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(image)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    for filters, strides in ((12, 1), (16, 2), (16, 1)):
        x = layers.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False)(x)
        x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
        x = layers.Conv2D(filters, 1, use_bias=False)(x)
        x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.SeparableConv2D(16, 3, padding="same")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(5, activation="softmax", name="scores")(x))


def _residual(keras: Any) -> Any:
    layers = keras.layers
    image = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    for filters, strides in ((8, 1), (12, 2)):
        y = layers.Conv2D(filters, 3, strides=strides, padding="same")(x)
        y = layers.Activation("relu")(layers.BatchNormalization()(y))
        y = layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same")(y))
        if strides > 1:
            x = layers.Conv2D(filters, 1, strides=strides, padding="same")(x)
        x = layers.Activation("relu")(layers.Add()([x, y]))
    # Squeeze and excite, and a branch: what layouts are pushed through.
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(12, 1, activation="hard_sigmoid")(gate)
    x = layers.Multiply()([x, gate])
    x = layers.Concatenate()([x, layers.AveragePooling2D(3, strides=1, padding="same")(x)])
    x = layers.GlobalMaxPooling2D()(x)
    return keras.Model(image, layers.Dense(4, name="scores")(x))


def _upsampling(keras: Any) -> Any:
    layers = keras.layers
    image = keras.Input((12, 12, 2), name="image")
    a = layers.Conv2D(6, 3, padding="same", activation="relu")(image)
    b = layers.Conv2D(8, 3, strides=2, padding="same", activation="elu")(a)
    b = layers.Conv2DTranspose(6, 3, strides=2, padding="same")(b)
    c = layers.UpSampling2D(2)(layers.MaxPooling2D(2)(a))
    x = layers.Concatenate()([a, b, c])
    mask = layers.Conv2D(1, 1, activation="sigmoid", name="mask")(x)
    return keras.Model(image, mask)


def _lstm(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((10, 6), name="samples"),
            layers.LSTM(8, return_sequences=True),
            layers.LSTM(6),
            layers.Dense(3, name="scores"),
        ]
    )


def _gru(keras: Any) -> Any:
    layers = keras.layers
    samples = keras.Input((None, 5), name="samples")
    x = layers.Conv1D(6, 3, padding="causal", activation="relu")(samples)
    x = layers.Bidirectional(layers.GRU(5, return_sequences=True))(x)
    x = layers.GRU(4, reset_after=False)(x)
    return keras.Model(samples, layers.Dense(2, name="scores")(x))


def _attention(keras: Any) -> Any:
    layers = keras.layers
    sequence = keras.Input((9, 12), name="sequence")
    y = layers.MultiHeadAttention(3, 4)(sequence, sequence)
    x = layers.LayerNormalization()(layers.Add()([sequence, y]))
    y = layers.Dense(12)(layers.Dense(24, activation="gelu")(x))
    x = layers.LayerNormalization()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(sequence, layers.Dense(3, name="scores")(x))


def _two_inputs(keras: Any) -> Any:
    """Normalization heads one of two inputs; two outputs."""
    layers = keras.layers
    image = keras.Input((12, 12, 1), name="image")
    table = keras.Input((5,), name="table")
    scale = layers.Normalization()
    scale.adapt(np.random.default_rng(SEED).normal(50, 20, (64, 5)).astype(np.float32))
    x = layers.Conv2D(4, 3, activation="relu")(image)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Concatenate()([x, layers.Dense(6, activation="tanh")(scale(table))])
    return keras.Model(
        {"table": table, "image": image},
        {"price": layers.Dense(1)(x), "kind": layers.Dense(3, activation="softmax")(x)},
    )


def _image_head(keras: Any) -> Any:
    """Augmentation, Resizing, Rescaling and Normalization, as a model of its own at the head."""
    layers = keras.layers
    head = keras.Sequential(
        [
            layers.RandomFlip(),
            layers.Resizing(16, 16),
            layers.Rescaling(1 / 127.5, offset=-1),
            layers.Normalization(mean=[0.1, -0.2, 0.05], variance=[0.3, 0.25, 0.4]),
        ]
    )
    return keras.Sequential(
        [
            keras.Input((24, 20, 3), name="image"),
            head,
            layers.Conv2D(6, 3, strides=2, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, activation="softmax", name="scores"),
        ]
    )


def _text(keras: Any) -> Any:
    layers = keras.layers
    tokens = keras.Input((14,), dtype="int32", name="tokens")
    x = layers.Embedding(200, 12)(tokens)
    x = layers.SpatialDropout1D(0.2)(x)
    x = layers.Conv1D(10, 3, activation="relu")(x)
    x = layers.GlobalMaxPooling1D()(x)
    return keras.Model(tokens, layers.Dense(1, activation="sigmoid", name="score")(x))


def _masked(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8,), dtype="int64", name="tokens"),
            layers.Embedding(50, 6, mask_zero=True),
            layers.LSTM(5),
            layers.Dense(2, name="scores"),
        ]
    )


def _in_memory(folder: Path) -> Source:
    """A model of a class of its own: its code is here, so it may run."""
    del folder
    keras = _keras()

    class Gate(keras.layers.Layer):  # type: ignore[misc, name-defined]
        def build(self, shape: Any) -> None:
            self.weight = self.add_weight(shape=(shape[-1],), initializer="random_normal")

        def call(self, x: Any) -> Any:
            return x * keras.ops.sigmoid(keras.ops.mean(x, axis=1, keepdims=True) * self.weight)

    class Own(keras.Model):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.first = keras.layers.Dense(8, activation="mish")
            self.gate = Gate()
            self.last = keras.layers.Dense(2)

        def call(self, x: Any) -> Any:
            return self.last(self.gate(self.first(x)))

    example = np.random.default_rng(SEED).normal(size=(1, 6)).astype(np.float32)
    return Source(Own(), {"example": example})


CASES = (
    Case("keras_dense", "keras", "dense layers", _saved(_dense)),
    Case("keras_convolutions", "keras", "CNN with batch normalisation", _saved(_convolutions)),
    Case("keras_separable", "keras", "depthwise separable CNN (MobileNet)", _saved(_separable)),
    Case("keras_residual", "keras", "residual CNN with gates", _saved(_residual)),
    Case("keras_upsampling", "keras", "encoder and decoder (U-Net)", _saved(_upsampling)),
    Case("keras_lstm", "keras", "LSTM", _saved(_lstm)),
    Case("keras_gru", "keras", "GRU, both directions", _saved(_gru, bind={"samples:1": 7})),
    Case("keras_attention", "keras", "attention (transformer block)", _saved(_attention)),
    Case("keras_two_inputs", "keras", "several inputs and outputs", _saved(_two_inputs)),
    Case("keras_image_head", "keras", "preprocessing layers", _saved(_image_head)),
    Case("keras_text", "keras", "embedding of tokens", _saved(_text)),
    Case("keras_masked", "keras", "masked LSTM on tokens", _saved(_masked)),
    Case("keras_in_memory", "keras", "own class, in memory", _in_memory),
)
