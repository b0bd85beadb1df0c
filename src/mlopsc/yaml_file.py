"""Parses YAML that people write, without what surprises them or has no bounds.

Safe: nothing is executed, and no alias makes a small file a large value. Plain: a word is text
unless it is ``null``, ``true``, ``false``, or a decimal number; no key is there twice.
"""

from __future__ import annotations

import re
from typing import IO, Any

import yaml


def parse_yaml(text: str | IO[bytes]) -> Any:
    """Return what YAML says.

    Raises:
        yaml.YAMLError: It is not valid, has an alias, or a key is no text or there twice.
        ValueError, RecursionError: A number is too long, or values are nested too deeply.
    """
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {  # noqa: RUF012 - as the base class has it
        first: [pair for pair in found if pair[0] == "tag:yaml.org,2002:null"]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse an alias."""
        if self.check_event(yaml.events.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise _refused(f"there is an alias (*{event.anchor}); write the value again", event)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Refuse a key that is no text, or there twice."""
        keys: set[str] = set()
        for place, _ in node.value:
            key = self.construct_object(place, deep=True)
            if not isinstance(key, str):
                raise _refused(f"the key {key!r} is no text", place)
            if key in keys:
                raise _refused(f"the key '{key}' is there twice", place)
            keys.add(key)
        return super().construct_mapping(node, deep=deep)


def _refused(problem: str, place: Any) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, place.start_mark)


for _kind, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)",
        "-+.0123456789",
    ),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_kind}", re.compile(rf"^(?:{_pattern})$"), list(_first)
    )
