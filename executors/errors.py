"""What an operator can get wrong about servers and folders; each with its remedy."""

from typing import Final

from statemachine.errors import OperatorError


class BadUri(OperatorError):
    """The connection string cannot be used. Nothing of it is repeated: it may hold a password."""

    code, exit_code = "ECONN001", 2

    def __init__(self, role: str, why: str) -> None:
        super().__init__(
            f"the {role} URI is not valid: {why}",
            remedy="write mongodb://user:password@host:port/; escape @ : / % in user and password "
            "(%40 %3A %2F %25)",
        )


class Unreachable(OperatorError):
    code = "ECONN002"

    def __init__(self, role: str, where: str, why: str) -> None:
        super().__init__(
            f"cannot reach the {role} at {where}: {why}",
            remedy="check host, port, firewall, and whether the server wants TLS (tls=true) or a "
            "client certificate",
        )


class AuthenticationFailed(OperatorError):
    code = "ECONN003"

    def __init__(self, role: str, where: str, user: str, why: str) -> None:
        super().__init__(
            f"the {role} at {where} did not accept user {user!r}: {why}",
            remedy="check user, password and authSource of the URI",
        )


NOBODY: Final = "the right to ask anything: does the URI name a user? A job keeps no credentials"
"""What somebody lacks who did not log in."""


class NotAuthorised(OperatorError):
    code = "ECONN004"

    def __init__(self, role: str, where: str, missing: str) -> None:
        super().__init__(
            f"the user of the {role} at {where} lacks {missing}",
            remedy=_grant_to_read(missing) if role == "source" else _grant_to_write(missing),
        )


def _grant_to_read(missing: str) -> str:
    if "changeStream" in missing and "every database" in missing:
        return "grant readAnyDatabase: changes of more than one database are read together"
    grant = "read" if "changeStream" in missing else "read (or backup)"
    return f"grant {grant} on the databases of this job"


def _grant_to_write(missing: str) -> str:
    """The role `restore` changes nothing that is there."""
    grant = "readWrite and dbAdmin" + ("" if "update" in missing else " (or restore)")
    return f"grant {grant} on the databases of this job, and read: what was written is read back"


class NotAReplicaSet(OperatorError):
    code = "ECONN005"

    def __init__(self, role: str, where: str, what: str) -> None:
        super().__init__(
            f"the {role} at {where} is {what}; ferrylog needs a member of a replica set "
            "(acknowledgement by a majority, retryable writes)",
            remedy="start mongod with --replSet and call rs.initiate(); one member is enough",
        )


class SameDeployment(OperatorError):
    code = "ECONN006"

    def __init__(self, where: str) -> None:
        super().__init__(
            f"source and target are the same deployment ({where})",
            remedy="name another target",
        )


class WeakWriteConcern(OperatorError):
    code = "ECONN007"

    def __init__(self, concern: str) -> None:
        super().__init__(
            f"the target URI asks for write concern {concern}: acknowledged writes could be lost",
            remedy="remove w= and journal= from the URI; --write-concern sets it for the job",
        )


class OtherDeployment(OperatorError):
    """Resume names another deployment than the job began with."""

    code = "ERESUME001"

    def __init__(self, role: str, began: str, found: str) -> None:
        super().__init__(
            f"this job began with the {role} {began}, the one given now is {found}",
            remedy="give the same deployment again, or `ferrylog start --new`",
        )


class OtherCollection(OperatorError):
    """The collection was dropped and made again since the job began."""

    code = "ERESUME002"

    def __init__(self, role: str, namespace: str, began: str, found: str) -> None:
        super().__init__(
            f"{namespace} on the {role} is not the collection this job began with: "
            f"its UUID was {began}, now {found or 'there is none'}",
            remedy="it was dropped, renamed or made again; begin anew with `ferrylog start --new`",
        )


class CollectionGone(OperatorError):
    """The collection was dropped since the job began, which follows its source."""

    code = "EGONE001"

    def __init__(self, namespace: str) -> None:
        super().__init__(f"{namespace} was dropped on the source while it was copied")


class ServerSaid(OperatorError):
    """A question to a server failed before any work."""

    code = "ECONN008"

    def __init__(self, role: str, where: str, code: str, why: str) -> None:
        super().__init__(
            f"the {role} at {where} did not answer what has to be known first: {code}: {why}",
            remedy="see the server's log; nothing was changed",
        )


class OlderServer(OperatorError):
    """What a newer server described an older one may not understand, or understand otherwise."""

    code = "ECONN009"

    def __init__(self, where: str, target: str, source: str) -> None:
        super().__init__(
            f"the target at {where} is MongoDB {target}, older than {source}, from which the dump "
            "was taken",
            remedy=f"restore to MongoDB {'.'.join(source.split('.')[:2])} or newer",
        )


class NothingToRead(OperatorError):
    code, exit_code = "ESOURCE001", 2

    def __init__(self, what: str, where: str) -> None:
        super().__init__(
            f"no namespace on the source matches {what}",
            remedy=f"the source at {where} was asked just now; check --db, --collection, "
            "--ns-include and --ns-exclude",
        )


class BadQuery(OperatorError):
    code, exit_code = "ESOURCE004", 2

    def __init__(self, glob: str, where: str, why: str) -> None:
        super().__init__(
            f"the source at {where} does not take the query for {glob}: {why}",
            remedy="write --query as you would give it to find()",
        )


class QueryOfBuckets(OperatorError):
    """A query is asked of what is stored, and of a time series that is no document of its own."""

    code, exit_code = "ESOURCE005", 2

    def __init__(self, namespace: str) -> None:
        super().__init__(
            f"--query fits {namespace}, a time-series collection: it is read by its buckets, in "
            "which no query finds the documents",
            remedy=f"leave it out with --ns-exclude {namespace!r}, or narrow the query: "
            "--query 'GLOB={...}'",
        )


class CannotMigrate(OperatorError):
    code = "ESOURCE002"

    def __init__(self, namespace: str, what: str) -> None:
        super().__init__(
            f"{namespace} is {what}, which this version does not migrate",
            remedy=f"leave it out with --ns-exclude {namespace!r}",
        )


class NotExported(OperatorError):
    """A view."""

    code, exit_code = "EEXPORT042", 2

    def __init__(self, namespace: str) -> None:
        super().__init__(
            f"{namespace} is a view: it has no index by which it could be read in chunks",
            remedy=f"leave it out with --ns-exclude {namespace!r}, or export a collection that "
            "$out or $merge makes of it",
        )


class NoSnapshot(OperatorError):
    """One time for all documents was asked for, and cannot be had."""

    code = "ESNAP002"

    def __init__(self, namespace: str) -> None:
        super().__init__(
            f"{namespace} is capped: no server reads such a collection as of one time",
            remedy=f"leave it out with --ns-exclude {namespace!r}, or read with "
            "--consistency fuzzy",
        )


class TargetNotEmpty(OperatorError):
    code = "ETARGET001"

    def __init__(self, namespace: str, documents: int) -> None:
        super().__init__(
            f"the target already holds {namespace} with about {documents} documents",
            remedy="--drop replaces it; --on-conflict skip or overwrite merges into it, which "
            "increments cannot",
        )


class TargetDiffers(OperatorError):
    code = "ETARGET002"

    def __init__(self, namespace: str, why: str) -> None:
        super().__init__(
            f"the target already has {namespace}, {why}",
            remedy="--drop replaces it",
        )


class OutExists(OperatorError):
    """A dump is not written over another."""

    code, exit_code = "EDUMP003", 2

    def __init__(self, path: str, what: str) -> None:
        super().__init__(f"{path} {what}", remedy="name another, or remove it first")


class OutUnwritable(OperatorError):
    """Told before the dump, not when it is packed at its end."""

    code, exit_code = "EDUMP004", 2

    def __init__(self, path: str, why: str) -> None:
        super().__init__(
            f"a dump cannot be written to {path}: {why}",
            remedy="name another place with --out or --archive, or make it writable",
        )


class StreamClosed(OperatorError):
    """Whoever read the archive has gone; what they have is no whole archive."""

    code = "EDUMP005"

    def __init__(self, why: str) -> None:
        super().__init__(
            f"standard output took no more of the archive: {why}",
            remedy="`ferrylog resume` writes it anew, from its beginning",
        )


class BadFolder(OperatorError):
    code = "EDISK002"

    def __init__(self, path: str, why: str) -> None:
        super().__init__(
            f"the work folder {path} cannot be used: {why}",
            remedy="name another with --work-dir",
        )
