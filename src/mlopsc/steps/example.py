"""A steps file to begin with."""

from __future__ import annotations

_EXAMPLE = """\
# What happens in front of the model, for 'mlopsc import --preprocess' and for the training:
# mlopsc.load_preprocess("preprocess.yaml"). Every step is in docs/preprocessing.md.
schema_version: 1

# What goes in. A name in place of the first size is the batch, bound to 1 at import.
inputs:
  image: {dtype: uint8, shape: [batch, 480, 640, 3], layout: NHWC}

# Done in this order; each step takes what the step before gives.
steps:
  - resize: {height: 256, width: 256, mode: linear, fit: cover}
  - crop: {height: 224, width: 224}       # the centre
  # - colour: {from: RGB, to: BGR}        # where the model wants it
  - scale: {divide: 255}                  # 0 to 1
  - normalise:                            # for each channel; these are ImageNet's
      mean: [0.485, 0.456, 0.406]
      std: [0.229, 0.224, 0.225]
  - layout: {to: NCHW}

# The name of the model's input.
output: input
"""


def steps_example() -> str:
    """Return the text of a steps file for images, with comments."""
    return _EXAMPLE
