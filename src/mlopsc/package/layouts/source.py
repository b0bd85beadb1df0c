"""Layout *source*: one header, at most two C files, and the same as a library."""

from __future__ import annotations

from mlopsc.package.layouts.parts import Parts


def source(parts: Parts) -> dict[str, bytes]:
    """Return the files; the library was compiled for the target."""
    how = (
        f"Compile `{'` and `'.join(parts.sources())}` as C11 with your firmware, or link "
        f"`lib{parts.name}.a`: not both."
    )
    return {
        f"{parts.name}.h": parts.header(),
        **parts.sources(),
        f"lib{parts.name}.a": parts.library,
        **{f"selftest/{name}": text.encode() for name, text in parts.selftest.items()},
        "README.md": parts.readme(how),
        "LICENSES.md": parts.licences.encode(),
    }
