"""Which operators of TensorFlow may run here: those that only compute.

A graph is a program: it may read and write files, open connections or call Python. Operators say of
themselves whether they have state or effects; of these only the harmless ones are run.
"""

from __future__ import annotations

import re
from typing import Any, Final

from mlopsc.errors import ConversionError, SourceError, UnsafeSourceError
from mlopsc.frontends.tensorflow.graph import all_nodes, functions_of, node_of
from mlopsc.frontends.tensorflow.library import import_tensorflow

_VARIABLES: Final = frozenset(
    {
        "Assign", "AssignVariableOp", "DestroyResourceOp", "IsVariableInitialized",
        "ReadVariableOp", "ResourceGather", "ResourceGatherNd", "VarHandleOp",
        "VarIsInitializedOp", "Variable", "VariableShape", "VariableV2",
    }
)  # fmt: skip
_HARMLESS: Final = _VARIABLES | {
    "Abort", "Assert", "Case", "CheckNumericsV2", "Empty", "For", "If", "NoOp", "PartitionedCall",
    "Placeholder", "PlaceholderWithDefault", "StatefulPartitionedCall", "StatelessIf",
    "StatelessWhile", "While",
    # Tables with their contents in the graph; what uses them is refused later, with the reason.
    "AnonymousHashTable", "HashTable", "HashTableV2", "InitializeTable", "InitializeTableV2",
    "LookupTableFind", "LookupTableFindV2", "LookupTableImport", "LookupTableImportV2",
    "LookupTableSize", "LookupTableSizeV2", "MutableHashTable", "MutableHashTableV2",
}  # fmt: skip
# Random numbers are state, too; so are lists and stacks of tensors.
_HARMLESS_KIND: Final = re.compile(
    r"^(Random|Multinomial|ParameterizedTruncatedNormal|TruncatedNormal|StatefulRandom|"
    r"StatefulStandardNormal|StatefulUniform|TensorArray|Stack|StatefulTruncated)"
)
# These have effects, or read files, whatever they say of themselves.
_EFFECTS: Final = re.compile(
    r"PyFunc|PyCall|File|Reader|Dataset|Iterator|Checkpoint|Rpc|Debug|Summary|ImmutableConst|"
    r"^Save|^Restore|^Merge.*Checkpoint|^Print|Logging|Session|^Xla(Host|Recv|Send)|CustomCall"
)
_RESTORES: Final = re.compile(r"^Restore(V2|Slice)?$|^ShardedFilename$")
_SAME_NAME: Final = ("Identity", "ShardedFilename")
_CALLS: Final = ("PartitionedCall", "StatefulPartitionedCall")
_STRING: Final = 7  # DT_STRING
STRINGS: Final = re.compile(
    r"^(String|Regex|Static[Rr]egex|Unicode|Decode|Encode|Parse|Substr|AsString|ReduceJoin|"
    r"UnsortedSegmentJoin|LookupTable|HashTable|MutableHashTable)"
)


def check_operators(graph_def: Any, source: str, *, restores: bool = False) -> None:
    """Refuse a graph that does more than compute.

    Args:
        graph_def: Only what is going to run.
        source: What it is called in messages.
        restores: Whether it may read variables.

    Raises:
        UnsafeSourceError: It holds an operator with effects.
        SourceError: It holds an operator that TensorFlow does not have.
    """
    import_tensorflow()
    from tensorflow.python.framework import op_def_registry

    defined = {f.signature.name for f in graph_def.library.function}
    for node in all_nodes(graph_def):
        if node.op in defined or (restores and _RESTORES.search(node.op)):
            continue
        known = op_def_registry.get(node.op)
        if _EFFECTS.search(node.op) or (
            known is not None
            and known.is_stateful
            and node.op not in _HARMLESS
            and not _HARMLESS_KIND.search(node.op)
        ):
            raise UnsafeSourceError(
                f"{source} holds the operator {node.op} ('{node.name}'), which does more than "
                "compute: it can use files, the network, Python or state; nothing was run",
                hint="export the part of the model that computes, as a signature of its own",
            )
        if known is None:
            raise SourceError(
                f"{source} holds the operator {node.op} ('{node.name}'), which this TensorFlow "
                "does not have",
                hint="export the model with operators of TensorFlow itself",
            )


def check_restore(graph_def: Any, filename: str, source: str) -> None:
    """Refuse a graph that reads other variables than those it is given.

    Args:
        graph_def: Only what restores.
        filename: The tensor that says where the variables are.
        source: What it is called in messages.

    Raises:
        UnsafeSourceError: It reads files by another name.
    """
    functions = {f.signature.name: f for f in graph_def.library.function}
    scopes = [({n.name: n for n in graph_def.node}, {node_of(filename)})]
    scopes += [
        ({n.name: n for n in f.node_def}, {a.name for a in f.signature.input_arg})
        for f in functions.values()
    ]

    def is_given(nodes: dict[str, Any], given: set[str], tensor: str) -> bool:
        """Whether a tensor is the name that was given."""
        seen = set()
        while (place := node_of(tensor)) not in given:
            node = nodes.get(place)
            if node is None or place in seen or node.op not in _SAME_NAME or not node.input:
                return False
            seen.add(place)
            tensor = node.input[0]
        return True

    for nodes, given in scopes:
        for node in nodes.values():
            names = list(node.input[:1]) if _RESTORES.search(node.op) else []
            called = functions_of(node) | ({node.op} & functions.keys())
            for function in called & functions.keys():
                arguments = zip(functions[function].signature.input_arg, node.input, strict=False)
                names += [name for argument, name in arguments if argument.type == _STRING]
            plain = not called or node.op in (*_CALLS, *functions)
            if not plain or not all(is_given(nodes, given, name) for name in names):
                raise UnsafeSourceError(
                    f"{source} restores its variables from a file that it names itself: operator "
                    f"{node.op} ('{node.name}'); expected its own 'variables'; nothing was run",
                    hint="save the model again with tf.saved_model.save",
                )


def refuse_state(graph_def: Any, source: str) -> None:
    """Refuse what changes variables: a compiled model has none.

    Raises:
        ConversionError: An operator assigns to a variable.
    """
    for node in all_nodes(graph_def):
        if node.op.startswith(("Assign", "ResourceScatter", "ScatterUpdate")):
            raise ConversionError(
                f"{source} changes its variables when it runs: operator {node.op} ('{node.name}'); "
                "a compiled model has no state",
                hint="take the state as an input and give the new one as an output; for recurrent "
                "layers, with stateful=False",
            )


def refuse_strings(graph_def: Any, source: str) -> None:
    """Refuse what works on strings: nothing of the kind is compiled.

    Raises:
        ConversionError: An operator works on strings.
    """
    for node in all_nodes(graph_def):
        if STRINGS.search(node.op) and node.op != "DecodeProtoV2":
            raise ConversionError(
                f"{source} works on strings or looks things up in tables: operator {node.op} "
                f"('{node.name}'); a compiled model takes numbers",
                hint="export the part behind it, which takes numbers (token ids, pixels), and do "
                "the rest in the program around it",
            )
