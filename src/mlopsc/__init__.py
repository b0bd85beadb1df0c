"""mlopsc: a model compiler and cross-hardware packaging toolchain.

``import_model`` makes a bundle of a framework export, ``quantize`` one of a float bundle, ``build``
packages of a bundle, ``fit`` says whether a board has room for one, ``conform`` proves a package,
``load`` calls one; ``load_preprocess`` is for the training side, and ``fingerprint`` gives a data
set its digest; ``sign``, ``verify`` and ``trace`` are about trust.
Everything heavy is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlopsc import _loaded  # noqa: F401 - before all others: it notes the time
from mlopsc._version import __version__

if TYPE_CHECKING:
    from mlopsc.api import (
        build,
        conform,
        fingerprint,
        fit,
        import_model,
        load,
        load_preprocess,
        quantize,
        sign,
        trace,
        verify,
    )

__all__ = [
    "__version__",
    "build",
    "conform",
    "fingerprint",
    "fit",
    "import_model",
    "load",
    "load_preprocess",
    "quantize",
    "sign",
    "trace",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name == "load":  # whoever only calls models waits for nothing else
        from mlopsc.loader import load

        return load
    if name in __all__:
        from mlopsc import api

        return getattr(api, name)
    raise AttributeError(f"module 'mlopsc' has no attribute '{name}'")
