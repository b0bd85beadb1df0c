"""Writes PMML documents as R's and Java's exporters do, from numbers or models of scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

Fields = Mapping[str, Sequence[str] | str]


def document(fields: Fields, body: str, transformations: str = "", version: str = "4.4") -> str:
    """Return a document.

    Args:
        fields: By name the values of a text field, or the data type of a number.
        body: The model.
        transformations: Of the transformation dictionary.
        version: Of PMML.
    """
    declared = "".join(_data_field(name, kind) for name, kind in fields.items())
    space = f"http://www.dmg.org/PMML-{version.replace('.', '_')}"
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<PMML version="{version}" xmlns="{space}">'
        '<Header copyright="tests" description="made in the tests">'
        '<Application name="Tests" version="1.0"/></Header>'
        f'<DataDictionary numberOfFields="{len(fields)}">{declared}</DataDictionary>'
        f"<TransformationDictionary>{transformations}</TransformationDictionary>{body}</PMML>"
    )


def _data_field(name: str, kind: Sequence[str] | str) -> str:
    if isinstance(kind, str):
        return f'<DataField name="{name}" optype="continuous" dataType="{kind}"/>'
    values = "".join(f"<Value value={quoteattr(value)}/>" for value in kind)
    numbers = all(value.lstrip("-").isdigit() for value in kind)
    data_type = "integer" if numbers else "string"
    return (
        f'<DataField name="{name}" optype="categorical" dataType="{data_type}">{values}</DataField>'
    )


def schema(target: str, *active: str, **replacements: str) -> str:
    """Return a mining schema; ``replacements`` are for missing values."""
    fields = [f'<MiningField name="{target}" usageType="target"/>'] if target else []
    for name in active:
        new = f' missingValueReplacement="{replacements[name]}"' if name in replacements else ""
        fields.append(f'<MiningField name="{name}"{new}/>')
    return f"<MiningSchema>{''.join(fields)}</MiningSchema>"


def tree(model: Any, names: Sequence[str], *, classes: Sequence[str] = ()) -> str:
    """Return the nodes of a fitted tree of scikit-learn, predicates as R writes them."""
    inner = model.tree_

    def node(place: int, predicate: str) -> str:
        values = inner.value[place, 0]
        score = classes[values.argmax()] if classes else repr(float(values[0]))
        parts = "".join(
            f'<ScoreDistribution value="{c}" recordCount="{float(v) * 100!r}"/>'
            for c, v in zip(classes, values, strict=False)
        )
        left, right = inner.children_left[place], inner.children_right[place]
        if left >= 0:
            name, limit = names[inner.feature[place]], repr(float(inner.threshold[place]))
            simple = f'<SimplePredicate field="{name}" value="{limit}" operator="{{}}"/>'
            parts += node(left, simple.format("lessOrEqual"))
            parts += node(right, simple.format("greaterThan"))
        return f'<Node id="{place}" score="{score}">{predicate}{parts}</Node>'

    return node(0, "<True/>")


def tree_model(nodes: str, inner_schema: str, function: str, **attributes: str) -> str:
    """Return a ``TreeModel``."""
    more = "".join(f' {name}="{value}"' for name, value in attributes.items())
    return f'<TreeModel functionName="{function}"{more}>{inner_schema}{nodes}</TreeModel>'


def ensemble(models: Sequence[str], head: str, function: str, method: str, tail: str = "") -> str:
    """Return a ``MiningModel``."""
    segments = "".join(
        f'<Segment id="{number}"><True/>{model}</Segment>' for number, model in enumerate(models, 1)
    )
    return (
        f'<MiningModel functionName="{function}">{head}{tail}'
        f'<Segmentation multipleModelMethod="{method}">{segments}</Segmentation></MiningModel>'
    )
