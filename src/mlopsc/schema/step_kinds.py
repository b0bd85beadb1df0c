"""The parameters of every step of preprocessing and postprocessing; ``docs/preprocessing.md``.

Each class is one step: its docstring is what the documentation says of it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from mlopsc.dtypes import DTypeName
from mlopsc.schema.common import Frozen

Size = Annotated[int, Field(ge=1, strict=True)]
Count = Annotated[int, Field(ge=0, strict=True)]
Place = Annotated[int, Field(strict=True)]
Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
Fraction = Annotated[float, Field(ge=0, le=1, strict=True)]
Text = Annotated[str, StringConstraints(min_length=1)]
Flag = Annotated[bool, Field(strict=True)]
Layout = Annotated[str, StringConstraints(pattern=r"^[A-Z]+$")]
Letter = Annotated[str, StringConstraints(pattern=r"^[A-Z]$")]
Axis = Place | Letter
Labels = tuple[str, ...] | Text
Window = Literal["hann", "hamming", "blackman", "rectangular"]


class Resize(Frozen):
    """Resizes an image, as ONNX's `Resize` with half-pixel centres.

    Takes a layout with `H` and `W`. `nearest` keeps the type; `linear` and `cubic` give float32.

    Attributes:
        height: Pixels.
        width: Pixels.
        mode: How to interpolate; `cubic` has the coefficient -0.75.
        antialias: Whether `linear` and `cubic` widen their kernel when the image shrinks.
        fit: `stretch` gives the size exactly; `inside` keeps the ratio and gives the largest image
            that fits in, `cover` the smallest that covers it. `pad` or `crop` then make it exact.
    """

    height: Size
    width: Size
    mode: Literal["nearest", "linear", "cubic"] = "linear"
    antialias: Flag = True
    fit: Literal["stretch", "inside", "cover"] = "stretch"


class Crop(Frozen):
    """Cuts a rectangle out of an image.

    Takes a layout with `H` and `W`.

    Attributes:
        height: Pixels that are kept.
        width: Pixels that are kept.
        top: First row; the middle by default, or the row above it.
        left: First column; the middle by default, or the column left of it.
    """

    height: Size
    width: Size
    top: Count | None = None
    left: Count | None = None


class Slice(Frozen):
    """Keeps the elements from `start` to before `stop` along one axis.

    Attributes:
        axis: Number or letter.
        start: First element; negative numbers count from the end.
        stop: Element after the last; the end by default.
    """

    axis: Axis
    start: Place = 0
    stop: Place | None = None


class Pad(Frozen):
    """Adds elements around an image, or along one axis.

    Give `height` and `width` (the image moves to the centre, an odd row or column goes to the
    bottom or right), or any of `top`, `bottom`, `left` and `right`, or `axis` with `before` and
    `after`.

    Attributes:
        height: Rows afterwards.
        width: Columns afterwards.
        top: Rows added.
        bottom: Rows added.
        left: Columns added.
        right: Columns added.
        axis: Number or letter.
        before: Elements added in front.
        after: Elements added behind.
        mode: `constant`, `edge` (the nearest element) or `reflect` (mirrored, the edge once).
        value: Of the new elements, with `constant`.
    """

    height: Size | None = None
    width: Size | None = None
    top: Count | None = None
    bottom: Count | None = None
    left: Count | None = None
    right: Count | None = None
    axis: Axis | None = None
    before: Count | None = None
    after: Count | None = None
    mode: Literal["constant", "edge", "reflect"] = "constant"
    value: Number = 0.0

    @model_validator(mode="after")
    def _check_form(self) -> Pad:
        size = (self.height, self.width)
        sides = (self.top, self.bottom, self.left, self.right)
        ends = (self.before, self.after)
        forms = [
            None not in size,
            any(side is not None for side in sides),
            self.axis is not None and any(end is not None for end in ends),
        ]
        given = [value is not None for value in (*size, *sides, self.axis, *ends)]
        used = 2 * forms[0] + sum(side is not None for side in sides) * forms[1]
        used += forms[2] * (1 + sum(end is not None for end in ends))
        if sum(forms) != 1 or used != sum(given):
            raise ValueError(
                "expected 'height' and 'width', or some of 'top', 'bottom', 'left' and 'right', or "
                "'axis' with 'before' and 'after'"
            )
        return self


class Colour(Frozen):
    """Changes the order of colours, to grey (one channel) or from grey.

    Takes a layout with `C`. Grey is 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), float32; the other
    ways keep the type.

    Attributes:
        from: What the channels are.
        to: What they become.
    """

    source: Literal["RGB", "BGR", "GREY"] = Field(default="RGB", alias="from")
    to: Literal["RGB", "BGR", "GREY"]


class Scale(Frozen):
    """Gives `x * multiply / divide + add`, in float32 (float64 stays).

    Attributes:
        multiply: Factor.
        divide: Divisor.
        add: Summand.
    """

    multiply: Number = 1.0
    divide: Number = 1.0
    add: Number = 0.0

    @model_validator(mode="after")
    def _check_divisor(self) -> Scale:
        if self.divide == 0:
            raise ValueError("divide is 0; expected another number")
        return self


class Normalise(Frozen):
    """Gives `(x - mean) / std` for each channel, in float32 (float64 stays).

    Attributes:
        mean: One number, or one for each channel.
        std: One number, or one for each channel; not 0.
        axis: Of the channels; `C` of the layout, or the last axis where there is no layout.
    """

    mean: Number | tuple[Number, ...]
    std: Number | tuple[Number, ...]
    axis: Axis | None = None


class Standardise(Frozen):
    """Gives each sample mean 0 and variance 1: `(x - mean) / max(std, epsilon)`.

    Mean and (population) standard deviation are taken over the sample: all axes but `N`, or all but
    the first where there is no layout and more than one axis. Gives float32 (float64 stays).

    Attributes:
        axes: Take mean and deviation over these axes instead.
        epsilon: Least divisor, so that a constant sample becomes zeros.
    """

    axes: tuple[Axis, ...] | None = None
    epsilon: Positive = 1e-7


class ChangeLayout(Frozen):
    """Moves the axes to another layout.

    `C`, `N` and other letters that are new become axes of size 1; letters that are left out must be
    of size 1.

    Attributes:
        to: Letters of the axes afterwards, such as `NCHW`.
    """

    to: Layout


class Transpose(Frozen):
    """Moves the axes, by number.

    Attributes:
        axes: For each axis afterwards, which one it was.
    """

    axes: tuple[Place, ...]


class Reshape(Frozen):
    """Gives the elements another shape, in the same order.

    Attributes:
        shape: Sizes; one may be -1, which takes what is left. A symbolic batch stays the first, by
            its name.
        layout: Letters of the axes afterwards.
    """

    shape: tuple[Annotated[int, Field(ge=-1, strict=True)] | Text, ...]
    layout: Layout | None = None


class Cast(Frozen):
    """Changes the type. Floats become integers by dropping the fraction and saturating.

    Attributes:
        dtype: The type afterwards.
    """

    dtype: DTypeName


class Clip(Frozen):
    """Keeps values within limits; keeps the type.

    Attributes:
        min: Least value.
        max: Greatest value.
    """

    min: Number | None = None
    max: Number | None = None

    @model_validator(mode="after")
    def _check_limits(self) -> Clip:
        if self.min is None and self.max is None:
            raise ValueError("expected 'min', 'max' or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min is {self.min:g} and max is {self.max:g}; expected min <= max")
        return self


class OneHot(Frozen):
    """Gives a new axis with 1 at the place that an integer says and 0 elsewhere.

    An integer outside 0 to `depth` - 1 gives zeros.

    Attributes:
        depth: Size of the new axis.
        axis: Where the new axis goes; the last by default.
        dtype: The type afterwards.
    """

    depth: Size
    axis: Place = -1
    dtype: DTypeName = "float32"


class Quantise(Frozen):
    """Gives `saturate(round(x / scale) + zero_point)`, halves to even; ONNX's `QuantizeLinear`.

    Attributes:
        scale: Step between integers.
        zero_point: The integer for 0.
        dtype: The type afterwards.
    """

    scale: Positive
    zero_point: Place = 0
    dtype: Literal["int8", "uint8", "int16", "uint16"] = "int8"


class Dequantise(Frozen):
    """Gives `(x - zero_point) * scale` of integers, in float32; ONNX's `DequantizeLinear`.

    Attributes:
        scale: Step between integers.
        zero_point: The integer for 0.
    """

    scale: Positive
    zero_point: Place = 0


class Frame(Frozen):
    """Cuts a signal into frames that overlap: `[..., time]` becomes `[..., frames, length]`.

    What is left at the end and fills no frame is dropped. With a window, frames are floats.

    Attributes:
        length: Samples in a frame.
        hop: Samples from one frame to the next.
        window: What each frame is multiplied with; periodic, as `scipy.signal.get_window` gives it.
    """

    length: Size
    hop: Size
    window: Window = "rectangular"


class LogMel(Frozen):
    """Log-mel spectrogram of a signal of floats: `[..., time]` becomes `[..., mels, frames]`.

    By default what `librosa.power_to_db(librosa.feature.melspectrogram(y, ...), top_db=None)`
    gives. With `mel_scale: htk`, `mel_norm: none`, `pad: reflect` and `log: none` it is
    `torchaudio.transforms.MelSpectrogram`. The Fourier transform is a product with a table: its
    cost grows with the square of `frame_length`.

    Attributes:
        sample_rate: Samples per second.
        frame_length: Samples in a frame, which is the length of the Fourier transform.
        window_length: Samples that the window covers, in the middle of a frame; all by default.
        hop_length: Samples from one frame to the next; a quarter of the frame by default.
        window: Periodic, as `scipy.signal.get_window` gives it.
        centre: Whether the signal is padded by half a frame at both ends.
        pad: How it is padded: with zeros or mirrored.
        power: 2 for power, 1 for magnitude.
        mels: Number of bands.
        f_min: Lowest frequency, in hertz.
        f_max: Highest frequency, in hertz; half of the sample rate by default.
        mel_scale: `slaney` (linear below 1 kHz) or `htk` (`2595 log10(1 + f/700)`).
        mel_norm: `slaney` divides each band by its width in hertz; `none` does not.
        log: `db` is 10 times the decimal logarithm, `ln` the natural one, `log10` the decimal one.
        floor: What smaller values are raised to before the logarithm.
    """

    sample_rate: Size
    frame_length: Annotated[int, Field(ge=2, strict=True)] = 2048
    window_length: Size | None = None
    hop_length: Size | None = None
    window: Window = "hann"
    centre: Flag = True
    pad: Literal["constant", "reflect"] = "constant"
    power: Literal[1, 2] = 2
    mels: Size = 128
    f_min: Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)] = 0.0
    f_max: Positive | None = None
    mel_scale: Literal["slaney", "htk"] = "slaney"
    mel_norm: Literal["slaney", "none"] = "slaney"
    log: Literal["db", "ln", "log10", "none"] = "db"
    floor: Positive = 1e-10


class Mfcc(LogMel):
    """Mel-frequency cepstral coefficients: `[..., time]` becomes `[..., coefficients, frames]`.

    The first coefficients of the orthonormal discrete cosine transform (type II, as
    `scipy.fft.dct(norm="ortho")`) of the log-mel spectrogram: by default
    `librosa.feature.mfcc` with `top_db=None`. The other parameters are those of `log_mel`.

    Attributes:
        coefficients: How many; at most `mels`.
    """

    coefficients: Size = 20


class Softmax(Frozen):
    """Gives `softmax(x / temperature)` along an axis, in float32 (float64 stays).

    Attributes:
        axis: Number or letter.
        temperature: Above 1 it flattens the distribution, below 1 it sharpens it.
    """

    axis: Axis = -1
    temperature: Positive = 1.0


class Sigmoid(Frozen):
    """Gives `1 / (1 + exp(-x))`, in float32 (float64 stays)."""


class ArgMax(Frozen):
    """Gives the place of the largest element along an axis, the first of equals.

    Attributes:
        axis: Number or letter; it goes away.
        labels: A string for each place, or a text file with one a line: the output is strings.
    """

    axis: Axis = -1
    labels: Labels | None = None


class TopK(Frozen):
    """Gives the `k` largest elements along an axis, the largest first, and their places.

    Results: `values`, `classes`.

    Attributes:
        k: How many.
        axis: Number or letter.
        labels: A string for each place, or a text file with one a line: `classes` are strings.
    """

    k: Size
    axis: Axis = -1
    labels: Labels | None = None


class Threshold(Frozen):
    """Says where `x >= value`, as booleans.

    Attributes:
        value: The threshold.
        labels: Two strings, for below and for reached: the output is strings.
    """

    value: Number
    labels: Annotated[tuple[str, ...], Field(min_length=2, max_length=2)] | None = None


class Nms(Frozen):
    """Non-maximum suppression: keeps the best of boxes that overlap, class by class.

    Takes `boxes` (`[..., boxes, 4]`) and `scores` (`[..., boxes, classes]`), with at most one axis
    in front, the batch. Of all pairs of box and class whose score is above `score_threshold`, the
    one with the best score is kept, those of the same class that overlap it by more than
    `iou_threshold` are dropped, and so on, until `max_detections` are kept. Of equal scores the
    lower class comes first, then the lower box. What is not used of the outputs is zeros, of
    `classes` -1, of labels an empty string.

    Results: `boxes` (as given), `scores`, `classes`, `count` (how many were kept).

    Attributes:
        max_detections: How many are kept at most.
        iou_threshold: Intersection over union above which two boxes are one.
        score_threshold: Scores up to it are ignored.
        box_format: What the four numbers are: two corners (`xyxy`, `yxyx`), corner and size
            (`xywh`), or centre and size (`cxcywh`).
        class_axis: Axis of `scores` that counts classes, -1 or -2.
        labels: A string for each class, or a text file with one a line: `classes` are strings.
    """

    max_detections: Size
    iou_threshold: Fraction = 0.5
    score_threshold: Number = 0.0
    box_format: Literal["xyxy", "yxyx", "xywh", "cxcywh"] = "xyxy"
    class_axis: Literal[-1, -2] = -1
    labels: Labels | None = None
