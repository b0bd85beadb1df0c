"""Stage *quantise*: a bundle of a float model → a quantised ONNX model. Knows nothing of targets.

Takes a bundle and samples; gives an ONNX model in which ``QuantizeLinear`` and ``DequantizeLinear``
say what is integer, made by ONNX Runtime's quantiser, and a report of what that cost. The model is
imported like any other, so that everything an import proves is proven of it.
"""

from __future__ import annotations

from mlopsc.quantizer.drive import Quantized, quantize_bundle

__all__ = ["Quantized", "quantize_bundle"]
