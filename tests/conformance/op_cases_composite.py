"""Cases for composite operators: sampling, spectra, norms, placement, optimisers, attention,
n-grams."""

from __future__ import annotations

from typing import Any

import numpy as np
from op_cases import Case, Const, b, f, i, ints

TRAINING = "ai.onnx.preview.training"


def _scalar(value: Any, dtype: str = "int64") -> Const:
    return Const(np.array(value, dtype))


def _grids() -> list[Case]:
    image, volume = f("gs", 2, 3, 5, 6), f("gv", 1, 2, 3, 4, 5)
    grid, places = (
        f("gg", 2, 4, 3, 2, low=-1.6, high=1.6),
        f("gw", 1, 2, 3, 2, 3, low=-1.6, high=1.6),
    )
    odd = grid.copy()
    odd[0, 0, :, 0] = 1e4, -1e4, 500
    cases = [
        Case("GridSample", f"{mode}_{padding}_{aligned}", (image, grid),
             attributes={"mode": mode, "padding_mode": padding, "align_corners": aligned})
        for mode in ("linear", "nearest", "cubic")
        for padding in ("zeros", "border", "reflection")
        for aligned in (0, 1)
    ]  # fmt: skip
    cases += [
        Case("GridSample", f"volume_{mode}_{padding}", (volume, places),
             attributes={"mode": mode, "padding_mode": padding})
        for mode in ("linear", "nearest")
        for padding in ("zeros", "border", "reflection")
    ]  # fmt: skip
    cases.append(Case("GridSample", "far", (image, odd), attributes={"padding_mode": "border"}))
    for aligned in (0, 1):
        attributes = {"align_corners": aligned}
        cases += [
            Case("AffineGrid", f"plane_{aligned}", (f("ag", 2, 2, 3), ints(2, 3, 4, 5)),
                 attributes=attributes),
            Case("AffineGrid", f"space_{aligned}", (f("ah", 1, 3, 4), ints(1, 2, 3, 4, 2)),
                 attributes=attributes),
        ]  # fmt: skip
    return cases


def _spectra() -> list[Case]:
    real, pairs = f("dft", 2, 12, 3, 1), f("dftc", 2, 12, 3, 2)
    signal = f("stft", 2, 40)
    window = Const(np.hanning(16).astype(np.float32))
    return [
        Case("DFT", "real", (real, None, _scalar(1))),
        Case("DFT", "complex", (pairs, None, _scalar(-3))),
        Case("DFT", "default", (pairs,)),
        Case("DFT", "inverse", (pairs, None, _scalar(1)), attributes={"inverse": 1}),
        Case("DFT", "onesided", (real, None, _scalar(1)), attributes={"onesided": 1}),
        Case("DFT", "longer", (real, _scalar(15), _scalar(1))),
        Case("DFT", "shorter", (pairs, _scalar(7), _scalar(1))),
        Case("STFT", "plain", (signal[..., None], _scalar(8), None, _scalar(16)),
             attributes={"onesided": 1}),
        Case("STFT", "window", (signal[..., None], _scalar(5), window),
             attributes={"onesided": 1}),
        Case("STFT", "full", (signal[..., None], _scalar(8), window, _scalar(16)),
             attributes={"onesided": 0}),
        *(Case(op, way, (_scalar(9),), attributes={"periodic": way == "periodic"})
          for op in ("HannWindow", "HammingWindow", "BlackmanWindow")
          for way in ("periodic", "symmetric")),
        Case("MelWeightMatrix", "mel", (_scalar(8), _scalar(16), _scalar(8000),
                                        Const(np.float32(0)), Const(np.float32(4000)))),
    ]  # fmt: skip


def _norms() -> list[Case]:
    x = f("lp", 2, 3, 7, 6)
    rows = f("lpn", 3, 4)
    rows[1] = 0
    cases = [
        Case("LpNormalization", f"p{p}_{axis}", (rows,), attributes={"p": p, "axis": axis})
        for p in (1, 2)
        for axis in (0, -1)
    ]
    cases += [Case("GlobalLpPool", f"p{p}", (x,), attributes={"p": p}) for p in (1, 2, 3)]
    windows: dict[str, dict[str, Any]] = {
        "plain": {},
        "p1": {"p": 1},
        "p3": {"p": 3},
        "pads": {"pads": [1, 0, 1, 1], "strides": [2, 2]},
        "dilated": {"dilations": [2, 2]},
        "upper": {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        "lower": {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
    }
    cases += [
        Case("LpPool", label, (x,), attributes={"kernel_shape": [3, 2], **more})
        for label, more in windows.items()
    ]
    statistics = (f("bns", 3), f("bnb", 3), f("bnm", 3), f("bnv", 3, low=0.1))
    cases.append(
        Case("BatchNormalization", "training", (x, *statistics), outputs=3,
             attributes={"training_mode": 1, "momentum": 0.8})
    )  # fmt: skip
    for axis in (1, -1):
        weights = (f("lns", *x.shape[axis:]), f("lnb", *x.shape[axis:]))
        cases.append(
            Case("LayerNormalization", f"all_{axis}", (x, *weights), outputs=3,
                 attributes={"axis": axis})
        )  # fmt: skip
    cases += [
        Case("MeanVarianceNormalization", "axes", (x,), attributes={"axes": [0, 2]}),
        *(Case(op, label, (x, *axes), attributes=more)
          for op in ("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp")
          for label, axes, more in (
              ("all", (), {}), ("one", (ints(-1),), {"keepdims": 0}), ("two", (ints(0, 2),), {}),
              ("none", (), {"noop_with_empty_axes": 1}))),
        Case("ReduceLogSum", "one", (np.abs(x), ints(1))),
    ]  # fmt: skip
    return cases


def _placement() -> list[Case]:
    x = f("pl", 2, 8, 6)
    return [
        Case("Col2Im", "plain", (f("c2", 1, 6, 9), ints(4, 5), ints(2, 3))),
        Case("Col2Im", "strided", (f("c3", 2, 12, 4), ints(4, 4), ints(2, 2)),
             attributes={"strides": [2, 2]}),
        Case("Col2Im", "padded", (f("c4", 1, 4, 25), ints(5, 5), ints(2, 2)),
             attributes={"pads": [1, 1, 1, 1], "dilations": [2, 2]}),
        Case("EyeLike", "plain", (f("eye", 3, 4),)),
        Case("EyeLike", "below", (f("eye2", 4, 3),), attributes={"k": -1, "dtype": 7}),
        Case("CenterCropPad", "both", (x, ints(3, 10)), attributes={"axes": [1, 2]}),
        Case("ConstantOfShape", "zeros", (ints(2, 3),)),
        Case("Dropout", "mask", (x,), outputs=2),
        Case("Clip", "limits", (x, f("cl", low=-2, high=-1), f("ch", low=1, high=2))),
        Case("Clip", "crossed", (i("ci", 4, 5), np.array(3, np.int32), np.array(-2, np.int32))),
        Case("Range", "float", tuple(_scalar(v, "float32") for v in (1, 7, 1.5))),
        Case("Range", "down", (_scalar(9), _scalar(-3), _scalar(-4))),
        Case("SpaceToDepth", "plain", (f("s2d", 1, 2, 4, 6),), attributes={"blocksize": 2}),
        *(Case("Det", f"{n}", (f(f"det{n}", 2, n, n),)) for n in (1, 2, 3, 4, 7)),
        Case("Det", "singular", (np.ones((5, 5), np.float32),)),
        Case("Det", "zero_pivot", (np.eye(4, dtype=np.float32)[[1, 0, 3, 2]],)),
    ]  # fmt: skip


def _losses() -> list[Case]:
    scores, chosen = f("nll", 3, 5, 2), i("nllt", 3, 2, dtype="int64", low=0, high=5)
    weights = f("nllw", 5, low=0.1)
    return [
        Case(op, f"{reduction}_{label}", (scores, chosen, *given), outputs=outputs,
             attributes={"reduction": reduction, **more})
        for op, outputs in (("NegativeLogLikelihoodLoss", 1), ("SoftmaxCrossEntropyLoss", 2))
        for reduction in ("none", "mean", "sum")
        for label, given, more in (
            ("plain", (), {}), ("weights", (weights,), {}), ("ignored", (), {"ignore_index": 2}))
    ]  # fmt: skip


def _texts() -> list[Case]:
    """N-grams of one to three items; two of them share a column."""
    tokens, rows = i("tfa", 9, dtype="int64", low=0, high=4), i("tfb", 3, 8, low=0, high=4)
    short = i("tfs", 2, 1, low=0, high=4)
    pool = {
        "pool_int64s": [2, 3, 0, 1, 2, 2, 3, 0, 1, 0, 1, 2, 3, 3, 3],
        "ngram_counts": [0, 3, 9],
        "ngram_indexes": [5, 0, 1, 2, 3, 6, 4, 7],
        "min_gram_length": 1,
        "max_gram_length": 3,
    }
    weights = [0.5, 2.0, 0.25, 3.0, 1.0, 4.0, 1.5, 0.75]
    return [
        Case("TfIdfVectorizer", f"{mode}_{label}_{skips}", (x,),
             attributes={**pool, "mode": mode, "max_skip_count": skips, **more})
        for label, x in (("one", tokens), ("rows", rows), ("short", short))
        for mode, skips, more in (("TF", 0, {}), ("IDF", 1, {"weights": weights}),
                                  ("TFIDF", 5, {"weights": weights}),
                                  ("TF", 1, {"min_gram_length": 2, "max_gram_length": 2}),
                                  ("TF", 2, {"ngram_indexes": [5, 0, 1, 2, 3, 5, 4, 0]}))
    ]  # fmt: skip


def recent() -> list[Case]:
    """Operators that came with versions 23 and 24."""
    q, k, v = f("aq", 2, 4, 3, 8), f("ak", 2, 2, 5, 8), f("av", 2, 2, 5, 6)
    past = (f("apk", 2, 2, 2, 8), f("apv", 2, 2, 2, 6))
    mask = b("am", 3, 5)
    mask[1] = False
    return [
        Case("Attention", "plain", (q, k, v)),
        Case("Attention", "causal", (q, k, v), attributes={"is_causal": 1, "scale": 0.3}),
        Case("Attention", "softcap", (q, k, v), attributes={"softcap": 2.0}),
        Case("Attention", "mask", (q, k, v, f("afm", 2, 1, 3, 5))),
        Case("Attention", "bool_mask", (q, k, v, mask)),
        Case("Attention", "past", (q, k, v, None, *past), outputs=3),
        Case("Attention", "packed", (f("a3q", 2, 3, 32), f("a3k", 2, 5, 16), f("a3v", 2, 5, 12)),
             attributes={"q_num_heads": 4, "kv_num_heads": 2}),
        *(Case("Attention", f"scores_{mode}", (q, k, v, f("afn", 3, 7), *past), outputs=4,
               attributes={"qk_matmul_output_mode": mode, "softcap": 1.5})
          for mode in range(4)),
        Case("RotaryEmbedding", "half", (f("re", 2, 4, 3, 8), f("rec", 6, 2), f("res", 6, 2),
                                         i("rep", 2, 3, dtype="int64", low=0, high=6)),
             attributes={"rotary_embedding_dim": 4}),
        Case("RotaryEmbedding", "whole", (f("re", 2, 4, 3, 8), f("rec", 2, 3, 4),
                                          f("res", 2, 3, 4))),
        Case("RotaryEmbedding", "interleaved", (f("re", 2, 4, 3, 8), f("rec", 2, 3, 2),
                                                f("res", 2, 3, 2)),
             attributes={"interleaved": 1, "rotary_embedding_dim": 4}),
        Case("GroupNormalization", "g3", (f("gn", 2, 6, 4, 3), f("gns", 6), f("gnb", 6)),
             attributes={"num_groups": 3}),
        Case("RMSNormalization", "last", (f("rms", 2, 3, 8), f("rmss", 8))),
        Case("RMSNormalization", "axis1", (f("rms", 2, 3, 8), f("rmst", 3, 8)),
             attributes={"axis": 1}),
        Case("Swish", "alpha", (f("swish", 3, 4),), attributes={"alpha": 1.5}),
        Case("TensorScatter", "linear", (f("ts", 2, 3, 6, 4), f("tsu", 2, 3, 2, 4),
                                         i("tsi", 2, dtype="int64", low=0, high=4))),
        Case("TensorScatter", "circular", (f("ts", 2, 3, 6, 4), f("tsu", 2, 3, 2, 4),
                                           i("tsj", 2, dtype="int64", low=0, high=6)),
             attributes={"mode": "circular"}),
        Case("TensorScatter", "start", (f("ts", 2, 3, 6, 4), f("tsu", 2, 3, 6, 2)),
             attributes={"axis": 3}),
    ]  # fmt: skip


def optimisers() -> list[Case]:
    rate, step = f("rate", low=0.01, high=0.1), _scalar(3)
    x, g, h = f("ox", 3, 4), f("og", 3, 4), f("oh", 3, 4, low=0.1)
    y, e, k = f("oy", 5), f("oe", 5), f("ok", 5, low=0.1)
    momentum = {"alpha": 0.9, "beta": 0.8, "norm_coefficient": 0.01}
    return [
        Case(f"{TRAINING}::Adagrad", "two", (rate, step, x, y, g, e, h, k), outputs=4,
             attributes={"decay_factor": 0.1, "norm_coefficient": 0.01}),
        Case(f"{TRAINING}::Adam", "one", (rate, step, x, g, f("ov", 3, 4), h), outputs=3,
             attributes={"norm_coefficient": 0.01, "norm_coefficient_post": 0.02}),
        Case(f"{TRAINING}::Momentum", "standard", (rate, step, x, g, h), outputs=2,
             attributes={"mode": "standard", **momentum}),
        Case(f"{TRAINING}::Momentum", "first", (rate, _scalar(0), x, g, h), outputs=2,
             attributes={"mode": "nesterov", **momentum}),
    ]  # fmt: skip


def cases() -> list[Case]:
    return [*_grids(), *_spectra(), *_norms(), *_placement(), *_losses(), *_texts()]
