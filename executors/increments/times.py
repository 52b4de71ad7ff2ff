"""The times that a chain can be restored as of, and how people write them."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from executors.increments.errors import NoSuchTime
from executors.increments.model import Chain, position_of

FIND: Final = "`ferrylog inspect chain` names the times that can be restored"
END_OF_SECOND: Final = 2**32 - 1
"""The last increment that a cluster time can have."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CLUSTER_TIME: Final = re.compile(r"(\d{1,10})(?:\.(\d{1,10}))?", re.ASCII)


def restorable(chain: Chain) -> tuple[tuple[str, str], ...]:
    """First and last cluster time of each stretch that the chain can be restored as of; the same
    one twice where no log joins it to its neighbours."""
    times: list[tuple[str, str]] = []
    if chain.base.cluster_time:
        times.append((chain.base.cluster_time,) * 2)
    for each in chain.increments:
        if each.log and times:
            times[-1] = (times[-1][0], each.until)
        else:
            times.append((each.until, each.until))
    return tuple(times)


def position_at(time: str) -> tuple[int, int]:
    """The last cluster time that does not lie after `time`. Raises `NoSuchTime`."""
    if exact := _CLUSTER_TIME.fullmatch(time):
        return int(exact[1]), int(exact[2]) if exact[2] else END_OF_SECOND
    try:
        moment = datetime.fromisoformat(time)
        return (moment - _EPOCH) // timedelta(seconds=1), END_OF_SECOND
    except (ValueError, OverflowError, TypeError):  # no date at all, or one without a zone
        raise NoSuchTime(
            f"{time!r} is no time with a zone",
            remedy="write 2026-11-22T14:30:00Z, 2026-11-22T16:30:00+02:00, or a cluster time as "
            "`ferrylog inspect chain` shows them",
        ) from None


def of_no_single_time(chain: Chain) -> str:
    first = chain.increments[0] if chain.increments else None
    then = f": the first time that can be restored is {of_day(first.until)}" if first else ""
    return "the documents of the full dump are of no single time (--consistency snapshot)" + then


def beyond(chain: Chain, time: str) -> str:
    end = chain.increments[-1].until if chain.increments else chain.since
    return f"the chain in {chain.root} ends at {of_day(end)}: {time} is after it"


def of_day(cluster_time: str) -> str:
    """A cluster time, with the time of day."""
    day = _EPOCH + timedelta(seconds=position_of(cluster_time)[0])
    return f"{cluster_time} ({day:%Y-%m-%dT%H:%M:%SZ})"
