"""Which member of the source answers."""

from typing import Any, Final

from pymongo import MongoClient, ReadPreference
from pymongo.common import clean_node
from pymongo.errors import AutoReconnect
from pymongo.read_preferences import (
    Nearest,
    PrimaryPreferred,
    Secondary,
    SecondaryPreferred,
)
from pymongo.server_selectors import Selection

PREFERENCES: Final[dict[str, Any]] = {
    "primary": ReadPreference.PRIMARY,
    "primaryPreferred": PrimaryPreferred(),
    "secondary": Secondary(),
    "secondaryPreferred": SecondaryPreferred(),
    "nearest": Nearest(),
}
MAJORITY: Final = {"level": "majority"}


class OneMember(Nearest):
    """The member of this address and no other: a cursor lives on one."""

    __slots__ = ("_address",)

    def __init__(self, address: tuple[str, int | None]) -> None:
        super().__init__()
        self._address = address

    def __call__(self, selection: Selection) -> Selection:
        found = [each for each in selection.server_descriptions if each.address == self._address]
        if not found:  # to wait for it would be vain: another can go on at the last key
            raise AutoReconnect("the member that was read is gone")
        return selection.with_server_descriptions(found)


def choose(client: MongoClient[Any], preference: str) -> tuple[Any, dict[str, Any]]:
    """A read preference that names one member, and a read concern.

    A secondary answers only once it has all that the primary had acknowledged when this was
    called: what a lagging one does not hold yet would be missing without a word.
    """
    if preference == "primary":
        return ReadPreference.PRIMARY, MAJORITY
    since = client.admin.command("ping")["operationTime"]
    hello = client.admin.command("hello", read_preference=PREFERENCES[preference])
    return OneMember(clean_node(hello["me"])), {**MAJORITY, "afterClusterTime": since}
