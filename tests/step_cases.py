"""Steps with what they must give, computed by NumPy and SciPy and not by ONNX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.fft
import scipy.signal
import scipy.special
import scipy.stats

Array = np.ndarray[Any, Any]
Steps = list[dict[str, Any]]
RATE = 8000


@dataclass(frozen=True)
class Case:
    """Steps on given arrays.

    Attributes:
        name: Of the case; unique.
        steps: As in a steps file.
        inputs: Arrays by name.
        expected: Arrays by result; the only result of other steps is called "".
        layout: Of the first input.
        rtol: Relative tolerance, of the largest value.
    """

    name: str
    steps: Steps
    inputs: Mapping[str, Array]
    expected: Mapping[str, Array]
    layout: str | None = None
    rtol: float = 2e-6
    strings: frozenset[str] = field(default=frozenset())


def one(name: str, steps: Steps | dict[str, Any], x: Array, y: Any, layout: str | None = None,
        **more: Any) -> Case:  # fmt: skip
    """Return a case of one input and one output."""
    found = np.asarray(y)
    strings = frozenset({""} if found.dtype.kind in "OU" else ())
    listed = [steps] if isinstance(steps, dict) else steps
    return Case(name, listed, {"x": x}, {"": found}, layout, strings=strings, **more)


def _random(*shape: int) -> Array:
    return np.random.default_rng([7, *shape]).standard_normal(shape).astype(np.float32)


def _pixels(*shape: int) -> Array:
    return np.random.default_rng([8, *shape]).integers(0, 256, shape).astype(np.uint8)


IMAGE = _pixels(1, 9, 12, 3)  # NHWC


def _triangle(x: Array, antialias: bool) -> Array:
    return np.maximum(0, 1 - np.abs(x))


def _keys(x: Array, antialias: bool) -> Array:
    x, a = np.abs(x), -0.5 if antialias else -0.75
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


def _weights(before: int, after: int, kernel: Any, antialias: bool) -> Array:
    """The matrix that resizes an axis: a kernel around half-pixel centres.

    With antialias weights beyond the edge are dropped, as Pillow does; otherwise edges repeat.
    """
    ratio = before / after
    wide = max(ratio, 1.0) if antialias else 1.0
    table = np.zeros((after, before))
    for row in range(after):
        centre = (row + 0.5) * ratio - 0.5
        taps = np.arange(before) if antialias else np.arange(-4 * before, 5 * before)
        weights = kernel((taps - centre) / wide, antialias)
        np.add.at(table[row], np.clip(taps, 0, before - 1), weights)
    return table / table.sum(1, keepdims=True)


def resized(x: Array, height: int, width: int, kernel: Any, antialias: bool) -> Array:
    """Resize an NHWC image in float64."""
    rows = _weights(x.shape[1], height, kernel, antialias)
    columns = _weights(x.shape[2], width, kernel, antialias)
    return np.einsum("nhwc,yh,xw->nyxc", x.astype(np.float64), rows, columns)


def _nearest(x: Array, height: int, width: int) -> Array:
    rows, columns = (
        np.floor((np.arange(after) + 0.5) * before / after).astype(int)
        for before, after in ((x.shape[1], height), (x.shape[2], width))
    )
    return x[:, rows][:, :, columns]


def images() -> list[Case]:
    """Steps on images."""
    x, floats = IMAGE, _random(2, 3, 7, 10)
    moved = floats.transpose(0, 2, 3, 1)
    grey = x.astype(np.float64) @ [0.299, 0.587, 0.114]
    kernels = {"linear": _triangle, "cubic": _keys}
    cases = [
        one(
            f"resize_{mode}_{h}x{w}_{'smooth' if antialias else 'plain'}",
            {"resize": {"height": h, "width": w, "mode": mode, "antialias": antialias}},
            x, resized(x, h, w, kernel, antialias), "NHWC", rtol=1e-5,
        )
        for mode, kernel in kernels.items()
        for h, w in ((4, 7), (18, 24), (13, 5))
        for antialias in (True, False)
    ]  # fmt: skip
    return [
        *cases,
        one("resize_nchw", {"resize": {"height": 3, "width": 4}}, floats,
            resized(moved, 3, 4, _triangle, True).transpose(0, 3, 1, 2), "NCHW", rtol=1e-5),
        one("resize_hwc", {"resize": {"height": 3, "width": 4, "mode": "cubic"}}, x[0],
            resized(x, 3, 4, _keys, True)[0], "HWC", rtol=1e-5),
        one("resize_linear_hwc", {"resize": {"height": 3, "width": 4}}, x[0],
            resized(x, 3, 4, _triangle, True)[0], "HWC", rtol=1e-5),
        one("resize_cwnh", {"resize": {"height": 3, "width": 4}}, x.transpose(3, 2, 0, 1).copy(),
            resized(x, 3, 4, _triangle, True).transpose(3, 2, 0, 1), "CWNH", rtol=1e-5),
        one("resize_nearest_whc", {"resize": {"height": 5, "width": 24, "mode": "nearest"}},
            x[0].transpose(1, 0, 2).copy(), _nearest(x, 5, 24)[0].transpose(1, 0, 2), "WHC"),
        one("resize_hw", {"resize": {"height": 3, "width": 4}}, x[0, :, :, 0],
            resized(x, 3, 4, _triangle, True)[0, :, :, 0], "HW", rtol=1e-5),
        one("resize_nearest", {"resize": {"height": 5, "width": 24, "mode": "nearest"}}, x,
            _nearest(x, 5, 24), "NHWC"),
        one("resize_nearest_half", {"resize": {"height": 3, "width": 6, "mode": "nearest"}}, x,
            x[:, 1::3, 1::2], "NHWC"),
        one("resize_inside", {"resize": {"height": 6, "width": 6, "fit": "inside"}}, x,
            resized(x, 5, 6, _triangle, True), "NHWC", rtol=1e-5),
        one("resize_cover", {"resize": {"height": 6, "width": 6, "fit": "cover"}}, x,
            resized(x, 6, 8, _triangle, True), "NHWC", rtol=1e-5),
        one("resize_to_itself", {"resize": {"height": 9, "width": 12}}, x, x.astype(np.float32),
            "NHWC"),
        one("crop_centre", {"crop": {"height": 4, "width": 5}}, x, x[:, 2:6, 3:8], "NHWC"),
        one("crop_at", {"crop": {"height": 4, "width": 5, "top": 5, "left": 0}}, x,
            x[:, 5:9, 0:5], "NHWC"),
        one("pad_to", {"pad": {"height": 12, "width": 12, "value": 114}}, x,
            np.pad(x, ((0, 0), (1, 2), (0, 0), (0, 0)), constant_values=114), "NHWC"),
        one("pad_sides", {"pad": {"top": 2, "right": 3, "mode": "reflect"}}, x,
            np.pad(x, ((0, 0), (2, 0), (0, 3), (0, 0)), mode="reflect"), "NHWC"),
        one("pad_edge", {"pad": {"axis": "W", "before": 1, "after": 2, "mode": "edge"}}, floats,
            np.pad(floats, ((0, 0), (0, 0), (0, 0), (1, 2)), mode="edge"), "NCHW"),
        one("colour_bgr", {"colour": {"to": "BGR"}}, x, x[..., ::-1], "NHWC"),
        one("colour_grey", {"colour": {"to": "GREY"}}, x, grey[..., None], "NHWC"),
        one("colour_bgr_grey", {"colour": {"from": "BGR", "to": "GREY"}}, x[..., ::-1].copy(),
            grey[..., None], "NHWC"),
        one("colour_from_grey", {"colour": {"from": "GREY", "to": "RGB"}}, x[..., :1],
            x[..., [0, 0, 0]], "NHWC"),
        one("slice_letter", {"slice": {"axis": "C", "start": 1}}, x, x[..., 1:], "NHWC"),
        one("layout_nchw", {"layout": {"to": "NCHW"}}, x, x.transpose(0, 3, 1, 2), "NHWC"),
        one("layout_new", {"layout": {"to": "NCHW"}}, x[..., 0], x[:, None, :, :, 0], "NHW"),
        one("layout_gone", {"layout": {"to": "WHC"}}, x, x[0].transpose(1, 0, 2), "NHWC"),
    ]  # fmt: skip


def arrays() -> list[Case]:
    """Steps on arrays of any kind."""
    x, image = _random(2, 3, 4), _pixels(2, 5, 4, 3)
    centred = x - x.mean((1, 2), keepdims=True)
    places = np.array([[0, 3, 4, -1]], np.int64)
    wild = np.array([-1e9, -3.7, -0.5, 0.5, 2.5, 3.9, 300.0, 1e20], np.float32)
    return [
        one("transpose", {"transpose": {"axes": [1, 2, 0]}}, x, x.transpose(1, 2, 0)),
        one("reshape", {"reshape": {"shape": [6, -1]}}, x, x.reshape(6, 4)),
        one("reshape_layout", [{"reshape": {"shape": [2, 3, 2, 2], "layout": "NCHW"}},
                               {"layout": {"to": "NHWC"}}],
            x, x.reshape(2, 3, 2, 2).transpose(0, 2, 3, 1)),
        one("cast_saturates", {"cast": {"dtype": "uint8"}}, wild,
            np.array([0, 0, 0, 0, 2, 3, 255, 255], np.uint8)),
        one("cast_int32", {"cast": {"dtype": "int32"}}, wild,
            np.array([-1e9, -3, 0, 0, 2, 3, 300, 2147483520], np.int32)),
        one("cast_int64", {"cast": {"dtype": "int64"}}, wild[:-1],
            np.trunc(wild[:-1]).astype(np.int64)),
        one("cast_float", {"cast": {"dtype": "float32"}}, image, image.astype(np.float32)),
        one("clip", {"clip": {"min": -0.5, "max": 1}}, x, np.clip(x, -0.5, 1)),
        one("clip_integers", {"clip": {"max": 100}}, image, np.minimum(image, 100)),
        one("scale", {"scale": {"divide": 255, "multiply": 2, "add": -1}}, image,
            image / 255 * 2 - 1),
        one("scale_double", {"scale": {"multiply": 0.1}}, x.astype(np.float64),
            x.astype(np.float64) * 0.1),
        one("normalise", {"normalise": {"mean": [1, 2, 3], "std": [4, 5, 6]}}, image,
            (image - [1, 2, 3.0]) / [4, 5, 6], "NHWC"),
        one("normalise_axis", {"normalise": {"mean": 0.5, "std": [1, 2, 4], "axis": 1}}, x,
            (x - 0.5) / np.array([1, 2, 4]).reshape(1, 3, 1)),
        one("standardise", {"standardise": {}}, x, centred / x.std((1, 2), keepdims=True)),
        one("standardise_axes", {"standardise": {"axes": [-1]}}, x,
            (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)),
        one("standardise_constant", {"standardise": {}}, np.full((1, 5), 3, np.float32),
            np.zeros((1, 5))),
        one("standardise_signal", {"standardise": {}}, x[0, 0], scipy.stats.zscore(x[0, 0])),
        one("one_hot", {"one_hot": {"depth": 4}}, places,
            (places[..., None] == np.arange(4)).astype(np.float32)),
        one("one_hot_axis", {"one_hot": {"depth": 5, "axis": 1, "dtype": "int32"}},
            places.astype(np.int8), (places[:, None] == np.arange(5)[:, None]).astype(np.int32)),
        one("quantise", {"quantise": {"scale": 0.25, "zero_point": 3}},
            np.array([0, 0.125, 0.375, -0.3, 100, -100], np.float32),
            np.array([3, 3, 5, 2, 127, -128], np.int8)),
        one("quantise_16", {"quantise": {"scale": 0.001, "dtype": "int16"}}, x,
            np.round(x / np.float32(0.001)).astype(np.int16)),
        one("dequantise", {"dequantise": {"scale": 0.5, "zero_point": 128}}, image,
            (image.astype(np.float32) - 128) * 0.5),
        one("dequantise_wide", {"dequantise": {"scale": 0.5}}, np.int32([[-7, 100000]]),
            np.float32([[-3.5, 50000]])),
        one("nothing", [], x, x),
    ]  # fmt: skip


def signal(seconds: float = 0.25) -> Array:
    """A chirp with noise."""
    time = np.arange(int(seconds * RATE)) / RATE
    noise = 0.01 * np.random.default_rng(3).standard_normal(len(time))
    return (np.sin(2 * np.pi * (200 + 2000 * time) * time) + noise).astype(np.float32)[None]


def _hz_to_mel(f: Array, scale: str) -> Array:
    if scale == "htk":
        return 2595 * np.log10(1 + f / 700)
    return np.where(f < 1000, f * 3 / 200, 15 + 27 * np.log(np.maximum(f, 1) / 1000) / np.log(6.4))


def mel_bands(length: int, mels: int, scale: str, norm: str, low: float, high: float) -> Array:
    """Triangles in mel (bands, frequencies), by interpolation in hertz between the corners."""
    fine = np.linspace(0, RATE / 2, 400001)
    corners = np.interp(
        np.linspace(_hz_to_mel(np.array(low), scale), _hz_to_mel(np.array(high), scale), mels + 2),
        _hz_to_mel(fine, scale), fine,
    )  # fmt: skip
    frequencies = np.fft.rfftfreq(length, 1 / RATE)
    bands = [
        np.interp(frequencies, corners[m : m + 3], [0, 1, 0], left=0, right=0) for m in range(mels)
    ]
    table = np.array(bands)
    return table * 2 / (corners[2:] - corners[:-2])[:, None] if norm == "slaney" else table


def mel_spectrogram(
    x: Array, length: int, window: str, covered: int, hop: int, pad: str | None, mels: int,
    scale: str = "slaney", norm: str = "slaney", low: float = 0, high: float = RATE / 2,
    power: int = 2,
) -> Array:  # fmt: skip
    """What librosa and torchaudio define, by SciPy's transform of real numbers."""
    weights = np.zeros(length)
    start = (length - covered) // 2
    name = "boxcar" if window == "rectangular" else window
    weights[start : start + covered] = scipy.signal.get_window(name, covered, fftbins=True)
    if pad is not None:
        x = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(length // 2, length // 2)], mode=pad)
    frames = np.lib.stride_tricks.sliding_window_view(x, length, axis=-1)[..., ::hop, :]
    spectrum = np.abs(scipy.fft.rfft(frames.astype(np.float64) * weights)) ** power
    bands = spectrum @ mel_bands(length, mels, scale, norm, low, high).T
    return np.swapaxes(bands, -1, -2)


def audio() -> list[Case]:
    """Steps on signals. Logarithms magnify the error of bands that are nearly empty."""
    x = signal()
    frames = np.lib.stride_tricks.sliding_window_view(x, 200, axis=-1)[:, ::80]
    librosa = mel_spectrogram(x, 256, "hann", 256, 64, "constant", 40)
    torchaudio = mel_spectrogram(
        x, 200, "hamming", 160, 80, "reflect", 20, scale="htk", norm="none", low=60, high=3500
    )
    magnitude = mel_spectrogram(x[0], 255, "blackman", 250, 100, None, 12, power=1)
    narrow = mel_spectrogram(x, 256, "hann", 256, 64, "constant", 200)
    assert (narrow == 0).all(-1).any()
    decibels = 10 * np.log10(np.maximum(librosa, 1e-10))
    basic = {"sample_rate": RATE, "frame_length": 256, "mels": 40}
    other = {"sample_rate": RATE, "frame_length": 200, "window_length": 160, "hop_length": 80,
             "window": "hamming", "pad": "reflect", "mels": 20, "mel_scale": "htk",
             "mel_norm": "none", "f_min": 60, "f_max": 3500}  # fmt: skip
    plain = {"sample_rate": RATE, "frame_length": 255, "window_length": 250, "hop_length": 100,
             "window": "blackman", "centre": False, "mels": 12, "power": 1}  # fmt: skip
    return [
        one("frame", {"frame": {"length": 200, "hop": 80}}, x, frames),
        *(
            one(f"frame_{window}", {"frame": {"length": 200, "hop": 80, "window": window}}, x,
                frames * scipy.signal.get_window(window, 200))
            for window in ("hann", "hamming", "blackman")
        ),
        one("log_mel", {"log_mel": basic}, x, decibels, rtol=1e-5),
        one("mel_power", {"log_mel": {**basic, "log": "none"}}, x, librosa),
        one("mel_torchaudio", {"log_mel": {**other, "log": "none"}}, x, torchaudio),
        one("log_mel_empty_bands", {"log_mel": {**basic, "mels": 200}}, x,
            10 * np.log10(np.maximum(narrow, 1e-10)), rtol=1e-5),
        one("log_mel_ln", {"log_mel": {**other, "log": "ln", "floor": 1e-3}}, x,
            np.log(np.maximum(torchaudio, 1e-3)), rtol=1e-5),
        one("mel_magnitude", {"log_mel": {**plain, "log": "log10"}}, x[0], np.log10(magnitude),
            rtol=1e-5),
        one("mfcc", {"mfcc": basic}, x,
            scipy.fft.dct(decibels, axis=1, norm="ortho")[:, :20], rtol=1e-5),
        one("mfcc_few", {"mfcc": {**other, "log": "ln", "floor": 1e-6, "coefficients": 13}}, x,
            scipy.fft.dct(np.log(np.maximum(torchaudio, 1e-6)), axis=1, norm="ortho")[:, :13],
            rtol=1e-5),
        one("speech", [{"scale": {"divide": 32768}}, {"mfcc": basic}],
            (x * 8192).astype(np.int16),
            scipy.fft.dct(10 * np.log10(np.maximum(mel_spectrogram(
                (x * 8192).astype(np.int16) / 32768, 256, "hann", 256, 64, "constant", 40,
            ), 1e-10)), axis=1, norm="ortho")[:, :20], rtol=1e-5),
    ]  # fmt: skip


def scores() -> list[Case]:
    """Steps behind a model."""
    x = _random(2, 5)
    names = ["ant", "bee", "cat", "dog", "eel"]
    order = np.argsort(-x, axis=1)[:, :3]
    equal = np.random.default_rng(5).integers(0, 4, (2, 40))
    first = np.argsort(-equal, axis=1, kind="stable")[:, :30]
    ranked = np.take_along_axis(x, order, 1)
    return [
        one("softmax", {"softmax": {}}, x, scipy.special.softmax(x, 1)),
        one("softmax_cold", {"softmax": {"axis": 0, "temperature": 0.5}}, x,
            scipy.special.softmax(x / 0.5, 0)),
        one("sigmoid", {"sigmoid": {}}, x, scipy.special.expit(x)),
        one("argmax", {"argmax": {}}, x, x.argmax(1)),
        one("argmax_labels", {"argmax": {"labels": names}}, x, np.array(names)[x.argmax(1)]),
        one("threshold", {"threshold": {"value": 0.25}}, x, x >= 0.25),
        one("threshold_labels", {"threshold": {"value": 0, "labels": ["no", "yes"]}}, x,
            np.where(x >= 0, "yes", "no")),
        Case("top_k", [{"top_k": {"k": 3}}], {"x": x}, {"values": ranked, "classes": order}),
        Case("top_k_labels", [{"top_k": {"k": 3, "labels": names}}], {"x": x},
             {"values": ranked, "classes": np.array(names)[order]}, strings=frozenset({"classes"})),
        *(
            Case(f"top_k_ties_{tied.dtype}", [{"top_k": {"k": 30}}], {"x": tied},
                 {"values": np.take_along_axis(tied, first, 1), "classes": first})
            for tied in (equal.astype(t) for t in (np.float32, np.uint8, np.int64))
        ),
        Case("top_k_first", [{"top_k": {"k": 2, "axis": 0}}], {"x": x},
             {"values": -np.sort(-x, 0), "classes": np.argsort(-x, axis=0)}),
    ]  # fmt: skip


def overlap(a: Array, b: Array) -> float:
    """Intersection over union of two boxes of corners."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    shared = np.prod(np.maximum(high - low, 0))
    union = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared
    return float(shared / union) if union > 0 else 0.0


def suppressed(
    boxes: Array,
    corners: Array,
    scores: Array,
    most: int,
    iou: float,
    least: float,
    agnostic: bool = False,
) -> dict[str, Array]:
    """Greedy suppression class by class, as a list of candidates in the order of their scores."""
    found: dict[str, list[Array]] = {"boxes": [], "scores": [], "classes": [], "count": []}
    for sample in range(len(boxes)):
        count, classes = scores[sample].shape
        order = sorted(
            (-scores[sample, box, kind], kind, box)
            for box in range(count)
            for kind in range(classes)
            if scores[sample, box, kind] > least
        )
        kept: list[tuple[int, int]] = []
        for _, kind, box in order:
            near = (
                overlap(corners[sample, box], corners[sample, b])
                for k, b in kept
                if agnostic or k == kind
            )
            if (
                all(value <= iou for value in near)
                and len(kept) < most
                and not (agnostic and box in [b for _, b in kept])
            ):
                kept.append((kind, box))
        padding = most - len(kept)
        found["count"].append(np.array(len(kept), np.int64))
        found["classes"].append(np.array([k for k, _ in kept] + [-1] * padding, np.int64))
        chosen = [b for _, b in kept]
        found["boxes"].append(np.concatenate([boxes[sample, chosen], np.zeros((padding, 4))]))
        best = [scores[sample, b, k] for k, b in kept]
        found["scores"].append(np.array(best + [0] * padding))
    return {name: np.stack(rows) for name, rows in found.items()}


def detections() -> list[Case]:
    """Boxes that overlap, in every format."""
    rng = np.random.default_rng(11)
    low = rng.uniform(0, 4, (2, 12, 2))
    corners = np.concatenate([low, low + rng.uniform(1, 4, (2, 12, 2))], -1).astype(np.float32)
    corners[0, 3] = corners[0, 2]  # twice the same
    corners[0, 4, 2:] = corners[0, 4, :2]  # without an area
    chances = rng.uniform(0, 1, (2, 12, 3)).astype(np.float32)
    chances[0, 3] = chances[0, 2]
    size = corners[..., 2:] - corners[..., :2]
    centres = (corners[..., :2] + corners[..., 2:]) / 2
    given = {
        "xyxy": corners,
        "yxyx": corners[..., [1, 0, 3, 2]],
        "xywh": np.concatenate([corners[..., :2], size], -1),
        "cxcywh": np.concatenate([centres, size], -1),
    }
    base = {"max_detections": 20, "iou_threshold": 0.3, "score_threshold": 0.4}
    cases = []
    for kind, boxes in given.items():
        expected = suppressed(boxes, corners, chances, 20, 0.3, 0.4)
        steps: Steps = [{"nms": {**base, "box_format": kind}}]
        cases.append(Case(f"nms_{kind}", steps, {"boxes": boxes, "scores": chances}, expected))
    few = suppressed(corners, corners, chances, 3, 0.5, 0.0)
    one_sample = {name: array[0] for name, array in few.items()}
    names = np.array(["car", "bus", "van", ""])
    labelled = {**one_sample, "classes": names[one_sample["classes"]]}
    return [
        *cases,
        Case("nms_few", [{"nms": {"max_detections": 3}}],
             {"boxes": corners[0], "scores": chances[0]}, one_sample),
        Case("nms_agnostic", [{"nms": {"max_detections": 9, "class_agnostic": True}}],
             {"boxes": corners, "scores": chances},
             suppressed(corners, corners, chances, 9, 0.5, 0.0, agnostic=True)),
        Case("nms_more_than_there_are", [{"nms": {"max_detections": 10**9, "iou_threshold": 1}}],
             {"boxes": corners[:, :4], "scores": chances[:, :4]},
             suppressed(corners[:, :4], corners[:, :4], chances[:, :4], 12, 1, 0.0)),
        Case("nms_agnostic_all", [{"nms": {"max_detections": 10**9, "class_agnostic": True}}],
             {"boxes": corners[0, :4], "scores": chances[0, :4]},
             {name: array[0] for name, array in suppressed(
                 corners[:1, :4], corners[:1, :4], chances[:1, :4], 4, 0.5, 0.0, agnostic=True
             ).items()}),
        Case("nms_labels", [{"nms": {"max_detections": 3, "class_axis": -2,
                                     "labels": ["car", "bus", "van"]}}],
             {"boxes": corners[0], "scores": chances[0].T.copy()}, labelled,
             strings=frozenset({"classes"})),
    ]  # fmt: skip


FAMILIES = {
    "images": images,
    "arrays": arrays,
    "audio": audio,
    "scores": scores,
    "detections": detections,
}


def document(cases: Sequence[Case]) -> dict[str, Any]:
    """Return one steps file that does all of ``cases``, each on inputs of its own."""
    inputs: dict[str, Any] = {}
    steps: Steps = []
    outputs: list[str] = []
    for case in cases:
        names = {name: f"{case.name}_in_{name}" for name in case.inputs}
        for name, array in case.inputs.items():
            inputs[names[name]] = {"dtype": array.dtype.name, "shape": list(array.shape)}
        if case.layout is not None:
            inputs[names["x"]]["layout"] = case.layout
        own = [dict(step) for step in case.steps] or [{"reshape": {"shape": [-1]}},
            {"reshape": {"shape": list(case.inputs["x"].shape)}}]  # fmt: skip
        own[0]["input"] = names.get("x", names)
        results = {result: f"{case.name}_out_{result}" for result in case.expected}
        own[-1]["output"] = results.get("", results)
        outputs += results.values()
        steps += own
    return {"inputs": inputs, "steps": steps, "output": outputs}


def vectors(cases: Sequence[Case]) -> dict[str, Array]:
    """Return the inputs of ``document``."""
    return {f"{c.name}_in_{name}": array for c in cases for name, array in c.inputs.items()}


def check(cases: Sequence[Case], outputs: Mapping[str, Array]) -> None:
    """Compare what ``document`` gave with what the cases expect."""
    for case in cases:
        for result, expected in case.expected.items():
            found = outputs[f"{case.name}_out_{result}"]
            assert found.shape == expected.shape, (case.name, found.shape, expected.shape)
            if result in case.strings:
                assert found.tolist() == expected.tolist(), case.name
                continue
            if found.dtype.kind != "f":
                assert found.dtype == expected.dtype, (case.name, found.dtype, expected.dtype)
                np.testing.assert_array_equal(found, expected, err_msg=case.name)
                continue
            worst = np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-30)
            assert worst <= case.rtol, (case.name, result, worst)
