"""Models that the benchmarks measure, made when they are needed: nothing of them is in the tree."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import onnx

from zoo import (
    convnext,
    light,
    mobile,
    quantised,
    recurrent,
    tabular,
    tiny,
    transformer,
    vision,
)

MODELS: Final[dict[str, Callable[[], onnx.ModelProto]]] = {
    **{f"light_{name}": partial(light.light, name) for name in light.NAMES},
    **{f"tiny_{name}": partial(tiny.load, name) for name in tiny.NAMES},
    "resnet18": vision.resnet18,
    "mobilenet_v2": mobile.mobilenet_v2,
    "mobilenet_v3_large": mobile.mobilenet_v3,
    "efficientnet_b0": mobile.efficientnet_b0,
    "unet": vision.unet,
    "convnext_tiny": convnext.convnext_tiny,
    "vit_tiny": transformer.vit_tiny,
    "bert_base": transformer.bert_base,
    "bert_6x384": transformer.bert_small,
    "gpt2_step": transformer.gpt2_step,
    "lstm_tagger": recurrent.lstm_tagger,
    "gru_tagger": recurrent.gru_tagger,
    "wide_mlp": tabular.wide_mlp,
    "boosted_trees": tabular.boosted_trees,
}

# Models of 8-bit integers, and the model in float32 that each one was.
INTEGER_MODELS: Final[dict[str, Callable[[], onnx.ModelProto]]] = {
    **{f"tiny_{name}_int8": partial(tiny.load, name, "int8") for name in tiny.NAMES},
    "light_resnet50_int8": quantised.resnet50,
}
