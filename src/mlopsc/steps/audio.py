"""Steps on signals: frames, log-mel spectrograms, cepstral coefficients.

Tables are computed in float64 and rounded once. Conventions: librosa's for the mel bands, and for
how a signal is padded; ``scipy.signal.get_window`` for windows; ``scipy.fft.dct`` for the cosines.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from mlopsc.schema.audio_steps import Frame, LogMel, Mfcc
from mlopsc.steps.graph import Graph
from mlopsc.steps.value import Refusal, Value

Array = np.ndarray[Any, Any]
_MAX_TABLE: Final = 1 << 25  # elements
_MAX_BLOCKS: Final = 512  # parts that a frame is joined from
_COSINES: Final = {  # of multiples of the angle, with alternating signs
    "hann": (0.5, 0.5),
    "hamming": (0.54, 0.46),
    "blackman": (0.42, 0.5, 0.08),
    "rectangular": (1.0,),
}
# Slaney's scale: linear below a frequency, logarithmic above.
_LINEAR_HZ: Final = 200.0 / 3
_BREAK_HZ: Final = 1000.0
_LOG_STEP: Final = math.log(6.4) / 27


def window(kind: str, length: int) -> Array:
    """Return a periodic window."""
    angles = [2 * math.pi * n / length for n in range(length)]
    terms = _COSINES[kind]
    values = [
        sum((-1) ** k * factor * math.cos(k * angle) for k, factor in enumerate(terms))
        for angle in angles
    ]
    return np.array(values)


def frame(b: Graph, x: Value, step: Frame) -> Value:
    """Cut the last axis into frames that overlap."""
    frames = _frames(b, x, step.length, step.hop, 0)
    if step.window == "rectangular":
        return frames
    frames = b.as_float(frames)
    return b.op("Mul", frames, window(step.window, step.length).astype(frames.dtype))


def _frames(b: Graph, x: Value, length: int, hop: int, offset: int, *, around: int = 0) -> Value:
    """Return ``[..., frames, length]``; ``offset`` samples of each frame at both ends are left out.

    Args:
        b: The graph.
        x: The signal.
        length: Of what is kept of a frame.
        hop: From one frame to the next.
        offset: Samples in front of and behind what is kept.
        around: What the signal was padded with on both sides, for the message.
    """
    if not x.rank:
        raise Refusal(f"the value is {x}; expected a signal")
    if x.rank == 1 and isinstance(x.shape[0], str):
        raise Refusal(f"the value is {x}; expected the number of samples")
    whole = length + 2 * offset
    count = 1 + (x.size(-1) - whole) // hop
    if x.size(-1) < whole:
        raise Refusal(
            f"the signal has {x.size(-1) - 2 * around} samples; expected at least "
            f"{whole - 2 * around} for one frame"
        )
    if count == 1:
        hop = length  # there is no next one
    # A frame begins a block of 'hop' samples and goes on in the next: views instead of a table.
    blocks = -(-length // hop)
    if blocks > _MAX_BLOCKS:
        raise Refusal(f"a frame has {length} samples and begins {hop} after the one before; "
                      f"expected a hop of at least {-(-length // _MAX_BLOCKS)}")  # fmt: skip
    needed = offset + (count - 1 + blocks) * hop
    x = _fit(b, x, needed)
    shape = (*x.shape[:-1], count, hop)
    parts = [
        b.reshape(b.part(x, -1, offset + n * hop, offset + (n + count) * hop), shape)
        for n in range(blocks)
    ]
    frames = parts[0] if blocks == 1 else b.op("Concat", *parts, axis=x.rank)
    frames = b.part(frames, -1, 0, length)
    layout = x.layout + "F" if x.layout and "F" not in x.layout else None
    return Value(frames.name, frames.dtype, frames.shape, layout)


def _fit(b: Graph, x: Value, size: int) -> Value:
    """Return ``x`` with zeros behind the last axis, or without its end."""
    missing = size - x.size(-1)
    if missing <= 0:
        return b.part(x, -1, 0, size)
    pads = np.zeros((2, x.rank), np.int64)
    pads[1, -1] = missing
    return b.op("Pad", x, pads.ravel(), np.array(0, x.dtype))


def log_mel(b: Graph, x: Value, step: LogMel) -> Value:
    """Give the logarithm of the energy in mel bands."""
    return _bands_first(b, _log_mel(b, x, step), x)


def mfcc(b: Graph, x: Value, step: Mfcc) -> Value:
    """Give the first cosine coefficients of the log-mel spectrum."""
    if step.coefficients > step.mels:
        raise Refusal(f"coefficients is {step.coefficients} and mels is {step.mels}; "
                      "expected at most as many")  # fmt: skip
    bands = _log_mel(b, x, step)
    table = cosine_table(step.mels)[:, : step.coefficients]
    return _bands_first(b, b.op("MatMul", bands, table.astype(bands.dtype)), x)


def _bands_first(b: Graph, x: Value, signal: Value) -> Value:
    order = [*range(x.rank - 2), x.rank - 1, x.rank - 2]
    moved = b.op("Transpose", x, perm=order)
    letters = signal.layout
    layout = letters[:-1] + "F" + letters[-1] if letters and "F" not in letters else None
    return Value(moved.name, moved.dtype, moved.shape, layout)


def _log_mel(b: Graph, x: Value, step: LogMel) -> Value:
    """Return ``[..., frames, mels]``."""
    if not x.is_float:
        raise Refusal(
            f"the value is {x}; expected floats",
            "put a step 'scale: {divide: 32768}' in front, if the signal is of 16 bits",
        )
    length = step.frame_length
    kept = step.window_length or length
    if kept > length:
        raise Refusal(f"window_length is {kept}; expected at most frame_length, {length}")
    bins = length // 2 + 1
    largest = max(kept * bins * 2, step.mels * bins, step.mels**2)
    if largest > _MAX_TABLE:
        raise Refusal(
            f"frame_length is {length} and mels is {step.mels}, which takes a table of {largest} "
            f"elements; expected at most {_MAX_TABLE}"
        )
    x = b.as_float(x)
    around = length // 2 if step.centre else 0
    if around:
        x = _pad_ends(b, x, around, step.pad)
    # Outside the window a frame counts nothing: those samples are left out.
    offset = (length - kept) // 2
    x = b.part(x, -1, 0, x.size(-1) - (length - kept - 2 * offset))
    frames = _frames(b, x, kept, step.hop_length or length // 4 or 1, offset, around=around)
    table = fourier_table(length, offset, window(step.window, kept))
    parts = b.op("MatMul", frames, table.astype(x.dtype))
    squares = b.op("Mul", parts, parts)
    real, imaginary = b.several("Split", [squares], 2, axis=-1, num_outputs=2)
    spectrum = b.op("Add", real, imaginary)
    if step.power == 1:
        spectrum = b.op("Sqrt", spectrum)
    return _logarithm(b, b.op("MatMul", spectrum, mel_table(step).astype(x.dtype)), step)


def _pad_ends(b: Graph, x: Value, around: int, mode: str) -> Value:
    if mode == "reflect" and around >= x.size(-1):
        raise Refusal(f"the signal has {x.size(-1)} samples; expected more than {around}, half a "
                      "frame, to mirror them")  # fmt: skip
    pads = np.zeros((2, x.rank), np.int64)
    pads[:, -1] = around
    value = np.array(0, x.dtype) if mode == "constant" else None
    return b.op("Pad", x, pads.ravel(), value, mode=mode)


def _logarithm(b: Graph, x: Value, step: LogMel) -> Value:
    if step.log == "none":
        return x
    x = b.op("Log", b.op("Max", x, step.floor))
    factor = {"ln": 1.0, "log10": 1 / math.log(10), "db": 10 / math.log(10)}[step.log]
    return x if factor == 1 else b.op("Mul", x, factor)


def fourier_table(length: int, offset: int, weights: Array) -> Array:
    """Return the matrix from windowed samples to real and then imaginary parts.

    Args:
        length: Of the transform.
        offset: Place of the first sample in it.
        weights: The window, one weight for each sample.
    """
    turns = np.outer(np.arange(len(weights)) + offset, np.arange(length // 2 + 1)) % length
    angles = [2 * math.pi * n / length for n in range(length)]
    cosines, sines = (np.array([f(angle) for angle in angles]) for f in (math.cos, math.sin))
    table: Array = weights[:, None] * np.concatenate([cosines[turns], -sines[turns]], axis=1)
    return table


def cosine_table(size: int) -> Array:
    """Return the matrix of the orthonormal cosine transform of type II: rows in, columns out."""
    table = [
        [math.cos(math.pi * k * (2 * n + 1) / (2 * size)) for k in range(size)] for n in range(size)
    ]
    scales = [math.sqrt((1 if k == 0 else 2) / size) for k in range(size)]
    made: Array = np.array(table) * np.array(scales)
    return made


def mel_table(step: LogMel) -> Array:
    """Return the matrix from frequencies to mel bands: triangles between equally spaced points.

    Raises:
        Refusal: The frequencies contradict each other.
    """
    highest = step.sample_rate / 2 if step.f_max is None else step.f_max
    if not step.f_min < highest <= step.sample_rate / 2:
        raise Refusal(f"f_min is {step.f_min:g} and f_max is {highest:g}; expected f_min < f_max "
                      f"<= {step.sample_rate / 2:g}, half of sample_rate")  # fmt: skip
    to_mel, to_hz = _SCALES[step.mel_scale]
    low, high = to_mel(step.f_min), to_mel(highest)
    points = [to_hz(low + (high - low) * n / (step.mels + 1)) for n in range(step.mels + 2)]
    bins = step.frame_length // 2 + 1
    frequencies = np.arange(bins) * step.sample_rate / step.frame_length
    table = np.zeros((bins, step.mels))
    for band in range(step.mels):
        left, centre, right = points[band : band + 3]
        rising = (frequencies - left) / (centre - left)
        falling = (right - frequencies) / (right - centre)
        table[:, band] = np.maximum(0, np.minimum(rising, falling))
        if step.mel_norm == "slaney":
            table[:, band] *= 2 / (right - left)
    return table


def _slaney(hertz: float) -> float:
    if hertz < _BREAK_HZ:
        return hertz / _LINEAR_HZ
    return _BREAK_HZ / _LINEAR_HZ + math.log(hertz / _BREAK_HZ) / _LOG_STEP


def _from_slaney(mel: float) -> float:
    if mel < _BREAK_HZ / _LINEAR_HZ:
        return mel * _LINEAR_HZ
    return _BREAK_HZ * math.exp(_LOG_STEP * (mel - _BREAK_HZ / _LINEAR_HZ))


def _htk(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)


def _from_htk(mel: float) -> float:
    return float(700 * (10 ** (mel / 2595) - 1))


_SCALES: Final = {"slaney": (_slaney, _from_slaney), "htk": (_htk, _from_htk)}
