"""The error classes: one exit code and one meaning each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mlopsc import errors
from mlopsc.errors import CompilerError, MlopscError
from mlopsc.tools import run_worker

TAKEN_BY_OTHERS = {0: "success", 1: "unexpected", 2: "usage", 130: "interrupted"}


def all_kinds(base: type[MlopscError] = MlopscError) -> Iterator[type[MlopscError]]:
    for kind in base.__subclasses__():
        yield kind
        yield from all_kinds(kind)


KINDS = sorted(set(all_kinds()), key=lambda kind: kind.exit_code)


def test_every_class_of_the_module_is_an_error_with_a_code() -> None:
    defined = {v for v in vars(errors).values() if isinstance(v, type)} - {MlopscError}
    assert set(KINDS) >= {v for v in defined if issubclass(v, Exception)}
    assert len(KINDS) >= 14


def test_exit_codes_are_unique() -> None:
    codes = [kind.exit_code for kind in KINDS]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_exit_code_means_nothing_else_to_a_shell(kind: type[MlopscError]) -> None:
    assert kind.exit_code not in TAKEN_BY_OTHERS
    assert 0 < kind.exit_code < 126  # from 126 on, shells have meanings of their own


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_class_says_what_it_means(kind: type[MlopscError]) -> None:
    assert kind.__dict__.get("__doc__"), "no docstring of its own"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_message_and_hint_are_kept_apart(kind: type[MlopscError]) -> None:
    error = kind("it failed", hint="mend it")
    assert (error.message, error.hint, str(error)) == ("it failed", "mend it", "it failed")
    assert kind("it failed").hint == kind.default_hint != ""


def test_hint_cannot_be_given_by_position() -> None:
    with pytest.raises(TypeError):
        CompilerError("it failed", "mend it")


def test_error_of_a_worker_is_not_the_error_of_its_crash() -> None:
    # The function's own error wins over the class that stands for a crash.
    with pytest.raises(errors.UnknownTargetError):
        run_worker("mlopsc.targets:load_target", {"name": "nothing"}, crash=errors.GateError)
