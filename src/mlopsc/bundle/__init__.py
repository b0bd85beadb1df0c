"""Bundles (``.mlb``): one content-addressed file that knows a model and nothing of any target.

A deterministic zip: fixed order and times, members stored and aligned so that weights can be mapped
into memory. Members: ``manifest.json``, one ``<stage>.onnx`` per stage, ``<stage>.weights`` with
the stage's large initializers (external data of its graph) if it has any, ``vectors/``, the
documents ``lineage.json``, ``provenance.json`` and ``sbom.cdx.json``, and ``signature/``.
"""

from __future__ import annotations

from mlopsc.bundle.archive import Bundle, list_files, pack, read_bundle, write_bundle
from mlopsc.bundle.signature import graph_signature
from mlopsc.bundle.vectors import Vector, decode_vectors, encode_vectors
from mlopsc.bundle.weights import detach, load_graph, pieces, raw

__all__ = [
    "Bundle",
    "Vector",
    "decode_vectors",
    "detach",
    "encode_vectors",
    "graph_signature",
    "list_files",
    "load_graph",
    "pack",
    "pieces",
    "raw",
    "read_bundle",
    "write_bundle",
]
