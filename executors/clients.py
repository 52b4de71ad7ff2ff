"""Connections: made once per role, with bounded waits, and never showing a secret."""

import warnings
from dataclasses import dataclass
from typing import Any, Final, Literal

from bson import ObjectId
from pymongo import MongoClient, uri_parser
from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    InvalidURI,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from executors.errors import (
    NOBODY,
    AuthenticationFailed,
    BadUri,
    NotAReplicaSet,
    NotAuthorised,
    ServerSaid,
    Unreachable,
    WeakWriteConcern,
)

Role = Literal["source", "target"]

NOT_AUTHORISED: Final = 13
AUTHENTICATION_FAILED: Final = (8000, 18, 11, 334)
"""Of Atlas and of servers: a wrong password, an unknown user or mechanism."""
SELECT_MS: Final = 20_000
"""A failover takes seconds; longer than this is an outage and the rules decide."""
APP: Final = "ferrylog"
"""By this name servers know what is ours."""
FIRST_SELECT_MS: Final = 5_000
SOCKET_MS: Final = 120_000
"""No answer for this long: the attempt fails and is retried."""


@dataclass(frozen=True)
class Deployment:
    """A replica set that answered: a client, and what it is called without secrets."""

    role: Role
    client: MongoClient[Any]
    patient: MongoClient[Any]
    """Without a limit on an answer's time: an index build may take hours. It connects when it is
    first used: that of a source never is."""
    where: str
    """`mongodb://host:port,...` for people and for the journal."""
    identity: str
    """`<set name>:<id of its configuration>`; the id may be empty, it takes a privilege."""
    process: ObjectId | None
    hosts: frozenset[str]
    """Members, as the deployment names them."""
    version: str

    def close(self) -> None:
        self.client.close()
        self.patient.close()

    def overlaps(self, other: "Deployment") -> bool:
        """Whether both are one deployment, through whichever of its members they were reached."""
        if self.process is not None and self.process == other.process:
            return True
        mine, theirs = self.identity.partition(":"), other.identity.partition(":")
        if mine[2] and theirs[2]:
            return mine[2] == theirs[2]
        return mine[0] == theirs[0] and bool(self.hosts & other.hosts)

    def is_same_as(self, identity: str) -> bool:
        """Whether an identity noted earlier is this deployment's."""
        mine, theirs = self.identity.partition(":"), identity.partition(":")
        if mine[2] and theirs[2]:
            return mine[2] == theirs[2]
        return mine[0] == theirs[0]


def connect(role: Role, uri: str) -> Deployment:
    """Reach the deployment and learn what it is.

    Raises `BadUri`, `Unreachable`, `AuthenticationFailed`, `NotAReplicaSet`,
    `WeakWriteConcern`.
    """
    parsed = _parse(role, uri)
    where = shown(uri)
    if role == "target":
        _refuse_weak(parsed["options"])
    probe = _client(role, uri, serverSelectionTimeoutMS=FIRST_SELECT_MS)
    try:
        hello = probe.admin.command("hello")
        _must_be_replica_set(role, where, hello)
        probe.admin.command("connectionStatus")
        identity = f"{hello['setName']}:{_replica_set_id(probe)}"
        version = str(probe.admin.command("buildInfo")["version"])
    except OperationFailure as error:
        raise _refused(role, where, parsed.get("username") or "", error) from None
    except ConfigurationError as error:
        raise BadUri(role, _without_secrets(str(error), uri)) from None
    except (ServerSelectionTimeoutError, AutoReconnect) as error:
        raise Unreachable(role, where, _short(error)) from None
    finally:
        probe.close()
    return Deployment(
        role=role,
        client=_client(role, uri, serverSelectionTimeoutMS=SELECT_MS, socketTimeoutMS=SOCKET_MS),
        patient=_client(
            role, uri, serverSelectionTimeoutMS=SELECT_MS, socketTimeoutMS=None, connect=False
        ),
        where=where,
        identity=identity,
        process=hello.get("topologyVersion", {}).get("processId"),
        hosts=frozenset(hello.get("hosts", ())),
        version=version,
    )


def shown(uri: str) -> str:
    """The URI without credentials and options; of one that cannot be parsed, only the scheme."""
    if "@" in uri.partition("://")[2].partition("?")[0].partition("/")[2]:
        return uri.partition("://")[0] + "://…"
    try:
        nodes = _leniently(uri)["nodelist"]
    except (PyMongoError, ValueError):
        return uri.partition("://")[0] + "://…" if "://" in uri else "…"
    hosts = ",".join(f"{host}:{port}" if port else host for host, port in nodes)
    return f"mongodb://{hosts}/"


def secrets_of(uri: str) -> list[str]:
    """Every part of the URI that must not be shown, in each form in which it may turn up."""
    found: set[str] = set()
    authority = uri.partition("://")[2].partition("?")[0]
    if "@" in authority:
        credentials = authority.rpartition("@")[0]
        found |= {uri, credentials, credentials.partition(":")[2]}
    try:
        parsed = _leniently(uri)
        found.add(parsed.get("password") or "")
        hidden = ("tlscertificatekeyfilepassword", "authmechanismproperties")
        found |= {str(parsed["options"].get(name, "")) for name in hidden}
    except (PyMongoError, ValueError):
        pass
    return sorted((each for each in found if len(each) > 2), key=len, reverse=True)


def _parse(role: Role, uri: str) -> dict[str, Any]:
    if not uri.startswith(("mongodb://", "mongodb+srv://")):
        raise BadUri(role, "it must begin with mongodb:// or mongodb+srv://")
    if "@" in uri.partition("://")[2].partition("?")[0].partition("/")[2]:
        raise BadUri(role, "an @ stands behind the first /, so what is before is no host")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # an option the driver would only warn about
            return dict(uri_parser.parse_uri(uri, validate=True, warn=False))
    except InvalidURI:
        raise BadUri(role, "it cannot be parsed") from None
    except (PyMongoError, Warning, ValueError, OSError) as error:
        raise BadUri(role, _without_secrets(str(error), uri)) from None


def _leniently(uri: str) -> dict[str, Any]:
    """The URI's parts, whatever its options say; without a word on any stream."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict(uri_parser.parse_uri(uri, validate=False, warn=False))


def _client(role: Role, uri: str, **options: Any) -> MongoClient[Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return MongoClient(uri, appname=APP, connectTimeoutMS=FIRST_SELECT_MS, **options)
    except (ConfigurationError, Warning, ValueError, TypeError, OSError) as error:
        raise BadUri(role, _without_secrets(str(error), uri)) from None


def _must_be_replica_set(role: Role, where: str, hello: dict[str, Any]) -> None:
    if hello.get("msg") == "isdbgrid":
        raise NotAReplicaSet(role, where, "a mongos (sharded clusters are not supported yet)")
    if "setName" not in hello:
        raise NotAReplicaSet(role, where, "a standalone server")


def _refuse_weak(options: Any) -> None:
    concern = options.get("w", "majority")
    if concern != "majority" or options.get("journal") is False:
        raise WeakWriteConcern(f"w={concern}" if concern != "majority" else "journal=false")


def _refused(role: Role, where: str, user: str, error: OperationFailure) -> Exception:
    if error.code == NOT_AUTHORISED:
        return NotAuthorised(role, where, NOBODY)
    if error.code is not None and error.code not in AUTHENTICATION_FAILED:
        return ServerSaid(role, where, f"EMONGO{error.code:03d}", _short(error))
    return AuthenticationFailed(role, where, user, _short(error))


def _replica_set_id(client: MongoClient[Any]) -> str:
    try:
        config = client.local.system.replset.find_one({}, {"settings.replicaSetId": 1})
        return str(config["settings"]["replicaSetId"]) if config else ""
    except KeyError:
        return ""
    except OperationFailure as error:
        if error.code != NOT_AUTHORISED:  # anything else would be another identity, by accident
            raise
        return ""


def _short(error: Exception) -> str:
    return str(error).partition(", Timeout:")[0].partition(", full error:")[0][:300]


def _without_secrets(text: str, uri: str) -> str:
    for secret in secrets_of(uri):
        text = text.replace(secret, "…")
    return text
