"""What a place for files did not do: who can help, and how. No message holds a credential."""

from typing import ClassVar, Final

from statemachine.errors import OperatorError
from statemachine.words import Cause


class StoreError(OperatorError):
    """Of a store; `cause` is what an attempt that met it ends with."""

    code = "ESTORE011"
    cause: ClassVar[Cause] = Cause.PERMANENT


class BadStoreUrl(StoreError):
    """Nothing of it is repeated: it may hold a key."""

    code, exit_code = "ESTORE001", 2

    def __init__(self, why: str, remedy: str = "") -> None:
        super().__init__(
            f"the URL of the store cannot be used: {why}",
            remedy=remedy
            or "write file:/path, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix",
        )


class BadObjectName(StoreError):
    code = "ESTORE002"

    def __init__(self, name: str, why: str) -> None:
        super().__init__(
            f"no object may be named {name[:100]!r}: {why}",
            remedy="names that every store takes are told in docs/stores.md",
        )


class ObjectExists(StoreError):
    code = "ESTORE003"

    def __init__(self, where: str) -> None:
        super().__init__(
            f"{where} exists, with other bytes",
            remedy="something else writes beneath the same URL: one job, one URL",
        )


class NoObject(StoreError):
    code = "ESTORE004"

    def __init__(self, where: str) -> None:
        super().__init__(f"there is no {where}", remedy="look what removed it, and put it back")


class NoBucket(StoreError):
    code, cause = "ESTORE005", Cause.FATAL

    def __init__(self, url: str) -> None:
        super().__init__(
            f"the bucket or container of {url} does not exist",
            remedy="create it, or correct the name and the region; then `ferrylog resume`",
        )


class StoreDenied(StoreError):
    code, cause = "ESTORE006", Cause.FATAL

    def __init__(self, where: str, why: str) -> None:
        super().__init__(
            f"the store does not allow what was asked of {where}: {why}",
            remedy="grant the permissions of docs/stores.md to these credentials; then "
            "`ferrylog resume`",
        )


class CredentialsExpired(StoreError):
    code, cause = "ESTORE007", Cause.FATAL

    def __init__(self, where: str, why: str) -> None:
        super().__init__(
            f"the credentials for {where} have expired: {why}",
            remedy="get new ones into the environment; then `ferrylog resume`: nothing is lost",
        )


class NoCredentials(StoreError):
    code, cause = "ESTORE008", Cause.FATAL

    def __init__(self, url: str, why: str) -> None:
        super().__init__(
            f"no credentials for {url} can be had: {why}",
            remedy="give them by the cloud's own variables (docs/stores.md)",
        )


class KeeperSilent(NoCredentials):
    """Who keeps them for this machine did not answer: in the middle of a job it may pass."""

    cause = Cause.UNAVAILABLE


class StoreFull(StoreError):
    code, cause = "ESTORE009", Cause.FATAL

    def __init__(self, where: str, why: str) -> None:
        super().__init__(
            f"the store has no room for {where}: {why}",
            remedy="free some, or raise the quota; then `ferrylog resume`",
        )


class StoreUnavailable(StoreError):
    """Network, overload, throttling: it may pass by itself."""

    code, cause = "ESTORE010", Cause.UNAVAILABLE

    def __init__(self, where: str, why: str) -> None:
        super().__init__(
            f"the store did not serve {where}: {why}",
            remedy="check network, proxy and endpoint; what is under way waits, and "
            "`ferrylog resume` goes on",
        )


class StoreRefused(StoreError):
    """Any other answer: to no object in particular, whatever it was asked for."""

    code, cause = "ESTORE011", Cause.FATAL

    def __init__(self, where: str, why: str) -> None:
        super().__init__(
            f"the store refused what was asked of {where}: {why}",
            remedy="see what the store's own logs and settings say; then `ferrylog resume`",
        )


class TransferBroken(StoreError):
    """Another attempt begins it anew."""

    code, cause = "ESTORE012", Cause.TRANSIENT

    def __init__(self, where: str, why: str) -> None:
        super().__init__(
            f"the transfer of {where} did not come to its end: {why}",
            remedy="check the network; `ferrylog resume` begins it anew",
        )


class OtherRegion(StoreError):
    code, cause = "ESTORE013", Cause.FATAL

    def __init__(self, url: str, why: str) -> None:
        super().__init__(
            f"{url} lies elsewhere: {why}",
            remedy="set AWS_REGION to the bucket's region, or AWS_ENDPOINT_URL; then "
            "`ferrylog resume`",
        )


class IgnoresConditions(StoreError):
    """Told by a check; names of attempts are unique, so that nothing depends on it."""

    code = "ESTORE014"

    def __init__(self, url: str) -> None:
        super().__init__(
            f"{url} replaces an object although it was asked to put it only where there is none",
            remedy="let nothing else write beneath this URL; a newer version of the store may do "
            "better",
        )


class NotWhatWasPut(StoreError):
    """Told by a check."""

    code = "ESTORE015"

    def __init__(self, where: str, what: str) -> None:
        super().__init__(
            f"{where} was put, and {what}",
            remedy="this store cannot be used: a proxy or a gateway in front of it changes bytes "
            "or hides objects",
        )


class BadEndpoint(StoreError):
    code, cause = "ESTORE016", Cause.FATAL

    def __init__(self, url: str, why: str) -> None:
        super().__init__(
            f"no request for {url} can be made: {why}",
            remedy="write AWS_ENDPOINT_URL as https://host, or as http://host with "
            "AWS_ALLOW_HTTP=true; then `ferrylog resume`",
        )


class OddObject(StoreError):
    """Not ours, and in the way: the stores' client lists all beneath a prefix or nothing."""

    code, cause = "ESTORE017", Cause.FATAL

    def __init__(self, url: str, why: str) -> None:
        super().__init__(
            f"an object beneath {url} has a name that cannot be listed: {why}",
            remedy="take another prefix, or remove that object; then `ferrylog resume`",
        )


WARNINGS: Final = (IgnoresConditions,)
"""Findings in spite of which a job may run."""
