"""Options that belong together: declared once as the fields of a dataclass, taken by a command as
one argument."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import wraps
from typing import Any, get_type_hints

Command = Callable[..., None]


def spread(command: Command) -> Command:
    """The command as the parser sees it: each argument that is a dataclass of options stands there
    as these options, in their order, and is made of what was given for them."""
    given = inspect.signature(command).parameters
    groups = {name: each.annotation for name, each in given.items() if _is_group(each)}
    seen = [
        option
        for name, each in given.items()
        for option in (_options(groups[name]) if name in groups else (each,))
    ]

    @wraps(command)
    def gathered(**options: Any) -> None:
        for name, group in groups.items():
            options[name] = group(
                **{field.name: options.pop(field.name) for field in fields(group)}
            )
        command(**options)

    gathered.__signature__ = inspect.Signature(seen)  # type: ignore[attr-defined]
    gathered.__annotations__ = {each.name: each.annotation for each in seen}
    return gathered


def _is_group(parameter: inspect.Parameter) -> bool:
    return isinstance(parameter.annotation, type) and is_dataclass(parameter.annotation)


def _options(group: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=_default(field),
            annotation=hints[field.name],
        )
        for field in fields(group)
    ]


def _default(field: Field[Any]) -> Any:
    return inspect.Parameter.empty if field.default is MISSING else field.default
