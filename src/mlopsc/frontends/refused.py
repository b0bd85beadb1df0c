"""What is recognised to be refused: files that run code when they are loaded, and dead ends.

Each refusal names what the file is, why it is refused and the way to something that is accepted.
"""

from __future__ import annotations

import zlib

from mlopsc.errors import SourceError, UnsafeSourceError
from mlopsc.frontends.content import Content

_PICKLE = (
    "save the model without pickle: scikit-learn with skops.io.dump, PyTorch with "
    "torch.export.save, XGBoost, LightGBM and CatBoost with their own save_model; or, where you "
    "trust it, load it in Python and give the object to mlopsc.import_model"
)


def check(content: Content) -> None:
    """Refuse what must not or cannot be imported.

    Raises:
        UnsafeSourceError: It runs code when it is loaded.
        SourceError: It is known, and nothing here reads it.
    """
    path = content.path
    kind = _pickle_kind(content)
    if kind is not None:
        raise UnsafeSourceError(
            f"'{path}' is {kind}: loading it would run whatever it says; it was not loaded",
            hint=_PICKLE,
        )
    for begins, what, hint in _DEAD_ENDS:
        if content.head.startswith(begins):
            raise SourceError(
                f"'{path}' is {what}; expected a model that can be imported", hint=hint
            )


def _pickle_kind(content: Content) -> str | None:
    head = content.head
    if is_pickle(head):
        return "a pickle (or a joblib file)"
    names = [name.rpartition("/")[2] for name in content.members]
    if "data.pkl" in names and "archive_format" not in names:
        code = any("/code/" in name for name in content.members)
        return "a TorchScript archive with code" if code else "a PyTorch checkpoint (a pickle)"
    if head.startswith((b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")):
        try:
            if is_pickle(zlib.decompressobj().decompress(head, 64)):
                return "a compressed pickle (a joblib file)"
        except zlib.error:
            return None
    return None


def is_pickle(head: bytes) -> bool:
    """Whether ``head`` begins with the PROTO opcode of pickle, protocols 2 to 5, and an opcode."""
    return (
        len(head) > 2
        and head[0] == 0x80
        and 2 <= head[1] <= 5
        and head[2:3] in b"\x95}](cX\x8c.NKJMGVUBC\x89\x88h\x80"
    )


_ONNX = "export the model to ONNX where it comes from, and import that"
_DEAD_ENDS = (
    (b"GGUF", "a GGUF file: weights of a language model for llama.cpp", _ONNX),
    (
        b"\x89HDF\r\n\x1a\n",
        "an HDF5 file, Keras's old format",
        "save it as .keras: model.save('m.keras')",
    ),
)
