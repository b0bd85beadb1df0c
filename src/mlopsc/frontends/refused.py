"""What is recognised to be refused: files that run code when they are loaded, and dead ends.

Each refusal names what the file is, why it is refused and the way to something that is accepted.
"""

from __future__ import annotations

import re
import zlib

from mlopsc.errors import SourceError, UnsafeSourceError
from mlopsc.frontends.content import Content

_GLOBAL = re.compile(rb"[(]*c[A-Za-z_][\w.]*\n[A-Za-z_][\w.]*\n")
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
    found = next(((w, h) for begins, w, h in _DEAD_ENDS if content.head.startswith(begins)), None)
    found = found or _other(content)
    if found is not None:
        what, hint = found
        raise SourceError(f"'{path}' is {what}; expected a model that can be imported", hint=hint)


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
    """Whether ``head`` begins like a pickle: PROTO of protocols 2 to 5, or GLOBAL of older ones."""
    return _GLOBAL.match(head) is not None or (
        len(head) > 2
        and head[0] == 0x80
        and 2 <= head[1] <= 5
        and head[2:3] in b"\x95}](cX\x8c.NKJMGVUBC\x89\x88h\x80"
    )


_ONNX = "export the model to ONNX where it comes from, and import that"
_PADDLE = (
    "convert it: pip install paddlepaddle paddle2onnx; paddle2onnx --model_dir DIR "
    "--model_filename FILE --params_filename FILE --save_file model.onnx"
)
# What a file begins with, what it is, the way to something that is accepted.
_DEAD_ENDS = (
    (b"GGUF", "a GGUF file: weights of a language model for llama.cpp", _ONNX),
    (
        b"\x89HDF\r\n\x1a\n",
        "an HDF5 file, Keras's old format, which may hold marshalled code",
        "save it as .keras: model.save('model.keras')",
    ),
    (b"ftrt", "a TensorRT engine, made for one graphics card", _ONNX),
    (b"BZh", "compressed with bzip2", "unpack it first"),
    (b"\xfd7zXZ", "compressed with xz", "unpack it first"),
    (b"\x1f\x8b", "compressed with gzip (such as R's .rds and .RData)", "unpack it first; of R, "
     "save the model as PMML (package r2pmml) or in the format of its library"),
)  # fmt: skip


def _other(content: Content) -> tuple[str, str] | None:
    """Return what the content is and the way out, where it takes more than the first bytes."""
    text = content.text[:4096]
    size = int.from_bytes(content.head[:8], "little")
    if 2 <= size < content.size and content.head[8:9] == b"{" and b"dtype" in content.head:
        return "a safetensors file: weights without a graph", _ONNX
    if text.lstrip().startswith(("<?xml", "<net ")) and "<net " in text and "<layers>" in text:
        return "an OpenVINO model, made for one runtime", _ONNX
    if any(name.endswith(".mlmodel") for name in (*content.files, *content.members)):
        return "a Core ML package", _ONNX
    names = set(content.files)
    if any(name.endswith((".pdmodel", ".pdiparams")) for name in names):
        return "a folder with a PaddlePaddle model", _PADDLE
    paddle = content.suffix in (".pdmodel", ".pdiparams") or (
        text.lstrip().startswith("{") and '"magic"' in text and '"pir"' in text
    )
    return ("a PaddlePaddle model", _PADDLE) if paddle else None
