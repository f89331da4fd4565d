"""Lets a command take groups of options: each field of a dataclass among its parameters becomes an option."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any, get_type_hints


def spread(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command as Typer understands it, with the fields of its groups in their places.

    Fields are annotated as parameters of a command are, and have defaults; a field may be a group again.
    """
    parameters = list(_flat(command))

    @functools.wraps(command)
    def run(**values: Any) -> Any:
        return _call(command, values)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _flat(described: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters of a command or a group, those of its groups among them."""
    found: list[inspect.Parameter] = []
    for parameter, hint in _hinted(described):
        if is_dataclass(hint):
            found += _flat(hint)  # type: ignore[arg-type]
        else:
            found.append(parameter.replace(annotation=hint, kind=inspect.Parameter.KEYWORD_ONLY))
    return found


def _call(described: Callable[..., Any], values: dict[str, Any]) -> Any:
    """Call a command, or make a group, with the values of its parameters and groups."""
    taken = {}
    for parameter, hint in _hinted(described):
        taken[parameter.name] = _call(hint, values) if is_dataclass(hint) else values[parameter.name]  # type: ignore[arg-type]
    return described(**taken)


def _hinted(described: Callable[..., Any]) -> list[tuple[inspect.Parameter, Any]]:
    """The parameters of a function, or of a dataclass, with what their annotations stand for."""
    hints = get_type_hints(described, include_extras=True)
    return [(parameter, hints[name]) for name, parameter in inspect.signature(described).parameters.items()]
