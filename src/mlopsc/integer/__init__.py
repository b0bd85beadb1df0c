"""Integer arithmetic of quantised models: what is computed, before anybody asks where.

Takes a graph in normal form whose quantised parts stand between ``DequantizeLinear`` and
``QuantizeLinear``; gives the same graph with those parts as operators on integers (the domain
``mlopsc.integer``), and computes them in NumPy. ``docs/integer-semantics.md`` defines every bit.
It knows nothing of any target.
"""

from mlopsc.integer.convert import Conversion, use_integers
from mlopsc.integer.evaluate import ExactReference, IntegerReference, LayerCheck
from mlopsc.integer.recipe import DOMAIN
from mlopsc.integer.recognise import Cluster, find_clusters

__all__ = [
    "DOMAIN", "Cluster", "Conversion", "ExactReference", "IntegerReference", "LayerCheck",
    "find_clusters", "use_integers",
]  # fmt: skip
