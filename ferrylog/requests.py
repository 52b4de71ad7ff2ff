"""Requests as they lie in the inbox, and as the engine takes them: one codec, both ways."""

import json
from dataclasses import fields
from functools import cache
from typing import Final

from pydantic import TypeAdapter, ValidationError

from journal.inbox import Request
from statemachine.decide.asked import VERBS
from statemachine.stimuli import Asked, RollbackAsked

CLASSES: Final = {verb: cls for cls, verb in VERBS.items() if cls is not RollbackAsked}
ENVELOPE: Final = ("by", "request")
"""Fields that the inbox keeps itself."""
WHY: Final = "asked for"
"""Of a pause or a stop that says no more."""


class Unreadable(Exception):
    """A request that no program of this version left."""


def written(wish: Asked) -> tuple[str, dict[str, str]]:
    """The verb, and each detail as JSON text."""
    details = {
        field.name: json.dumps(getattr(wish, field.name))
        for field in fields(wish)
        if field.name not in ENVELOPE
    }
    return VERBS[type(wish)], details


def read(request: Request) -> Asked:
    """What somebody wants. Raises `Unreadable`; nothing of such a request is believed."""
    cls = CLASSES.get(request.verb)
    if cls is None:
        raise Unreadable(f"nobody knows the verb {request.verb!r}")
    known = {field.name for field in fields(cls)}
    strange = sorted(set(request.details) - (known - set(ENVELOPE)))
    if strange:
        raise Unreadable(f"{request.verb} has no {', '.join(strange)}")
    try:
        wish = {name: json.loads(text) for name, text in request.details.items()}
        if "why" in known:
            wish.setdefault("why", WHY)
        whole = json.dumps({**wish, "by": request.by, "request": request.id})
        return _reader(cls).validate_json(whole, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise Unreadable(f"{request.verb}: {place}: {first['msg']}") from None
    except (ValueError, TypeError) as error:
        raise Unreadable(f"{request.verb}: {error}") from None


@cache
def _reader(cls: type[Asked]) -> TypeAdapter[Asked]:
    return TypeAdapter(cls)
