"""Imports TensorFlow so that it writes nothing to the terminal and computes the same everywhere."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Any, Final

# Read by TensorFlow when it is imported, so it is too late once somebody has done that.
_ENVIRONMENT: Final = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",  # its kernels round differently from processor to processor
    "CUDA_VISIBLE_DEVICES": "-1",
    "KERAS_BACKEND": "tensorflow",
    "ABSL_MIN_LOG_LEVEL": "3",
    "GRPC_VERBOSITY": "NONE",
}


def import_tensorflow() -> Any:
    """Return the module ``tensorflow``; TensorFlow's and tf2onnx's loggers show errors alone.

    The environment is set in workers, and in whoever has not imported TensorFlow by himself.
    """
    if "tensorflow" not in sys.modules:
        os.environ.update(_ENVIRONMENT)
        warnings.filterwarnings("ignore", module=r"(tensorflow|keras|tf2onnx)(\.|$)")
    import tensorflow as tf

    for name in ("tensorflow", "absl"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return tf
