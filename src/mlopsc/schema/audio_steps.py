"""The parameters of steps on signals; docstrings go into the documentation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mlopsc.schema.common import Frozen
from mlopsc.schema.step_types import MOST, Flag, Positive, Size, Window


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
    cost grows with the square of `frame_length`. A band that lies between two frequencies of the
    transform is empty, as it is there: it gives `floor`.

    Attributes:
        sample_rate: Samples per second.
        frame_length: Samples in a frame, which is the length of the Fourier transform; at most
            5791, or more with a shorter window.
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
    frame_length: Annotated[int, Field(ge=2, le=MOST, strict=True)] = 2048
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
