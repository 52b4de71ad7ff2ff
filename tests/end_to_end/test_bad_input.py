"""What an operator can get wrong, through the command line: refused with place, reason, remedy.

Each case ends with its exit code and its stable code, writes nothing to the target, and shows
no password, in whatever form (faults 4 and 5, I45, P10).
"""

import base64
import fcntl
import json
import os
import shutil
import sqlite3
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from pymongo import MongoClient

from ferrylog.embedded import Mongod, free_port
from tests import program

pytestmark = pytest.mark.server

FERRYLOG = Path(sys.executable).with_name("ferrylog")
CANARY = "hunter2-Canary!%"
Client = MongoClient[dict[str, Any]]


def forms_of(secret: str) -> list[bytes]:
    """How a secret may turn up: raw, escaped, and the middle of its base64 at each alignment."""
    plain = {secret, quote(secret, safe=""), quote(secret, safe="!"), quote_plus(secret)}
    found = {each.encode() for each in plain}
    for each in sorted(found):
        found |= {base64.b64encode(b"x" * lead + each)[4 : -4 - lead] for lead in range(3)}
    return sorted(found)


LEAKS = forms_of(CANARY)


# --- servers --------------------------------------------------------------------------------------


@dataclass
class Side:
    """A server with access control: its operator, and what URIs to it look like."""

    mongod: Mongod
    client: Client

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.mongod.port}"

    def uri(
        self, user: str = "ferry", password: str = CANARY, *, options: str = "", host: str = ""
    ) -> str:
        return (
            f"mongodb://{user}:{quote_plus(password)}@{host or self.host}/"
            f"?authSource=admin{options and '&' + options}"
        )

    def may_only(self, *roles: tuple[str, str]) -> str:
        """The URI of a user with these roles on these databases, and no other."""
        user = "-".join(["may", *(part for role in roles for part in role)])
        granted = [{"role": role, "db": database} for role, database in roles]
        if not self.client.admin.command({"usersInfo": user})["users"]:
            self.client.admin.command({"createUser": user, "pwd": CANARY, "roles": granted})
        return self.uri(user)

    def may_do(self, name: str, actions: Sequence[str], database: str) -> str:
        """The URI of a user with a role of exactly these actions."""
        if not self.client.admin.command({"rolesInfo": name})["roles"]:
            resource = {"db": database, "collection": ""}
            self.client.admin.command(
                {
                    "createRole": name,
                    "privileges": [{"resource": resource, "actions": list(actions)}],
                    "roles": [],
                }
            )
        return self.may_only((name, "admin"))

    def content(self) -> dict[str, Any]:
        """A digest of every database that is not the server's own."""
        names = set(self.client.list_database_names()) - {"admin", "config", "local"}
        return {name: self.client[name].command("dbHash")["md5"] for name in names}


@contextmanager
def guarded(folder: Path, name: str) -> Iterator[Side]:
    """A replica set of one with access control; its users are made as on the first day, from
    the same machine."""
    folder.mkdir(parents=True)
    key = folder / "key"
    key.write_text(base64.b64encode(name.encode() * 20).decode())
    key.chmod(0o600)
    with Mongod(folder / "db", name=name, options=("--auth", "--keyFile", str(key))) as mongod:
        with MongoClient[dict[str, Any]](mongod.uri) as first:
            user = {"createUser": "ferry", "pwd": CANARY, "roles": ["root"]}
            first.admin.command(user)
        with MongoClient[dict[str, Any]](
            mongod.uri, username="ferry", password=CANARY, authSource="admin"
        ) as client:
            yield Side(mongod, client)


@dataclass
class Place:
    """Everything a case may need."""

    source: Side
    target: Side
    alone: Mongod
    folder: Path
    """Of the case, empty."""
    paused: Path
    """A folder with the journal of a paused job, to be copied."""
    secrets: Path
    """Where URI files lie: the one place where a password may stand."""

    @property
    def journal(self) -> Path:
        return self.folder / "ferrylog.db"

    def file(self, uri: str) -> str:
        path = self.secrets / f"uri{len(list(self.secrets.iterdir()))}"
        path.write_text(uri + "\n")
        path.chmod(0o600)
        return str(path)

    def ends(self, source: str | None = None, target: str | None = None) -> list[str]:
        """The options that name both sides by file."""
        return [
            *("--source-uri-file", self.file(source or self.source.uri())),
            *("--target-uri-file", self.file(target or self.target.uri())),
        ]

    def copy_of_paused(self) -> Path:
        shutil.copytree(self.paused, self.folder, dirs_exist_ok=True)
        return self.journal


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side, Mongod]]:
    folder = tmp_path_factory.mktemp("servers")
    with (
        guarded(folder / "source", "source") as source,
        guarded(folder / "target", "target") as target,
        Mongod(folder / "alone", replica_set=False) as alone,
    ):
        source.client.shop.orders.insert_many([{"_id": n} for n in range(100)])
        source.client.other.c.insert_one({"_id": 1})
        target.client.full.c.insert_many([{"_id": n} for n in range(3)])
        source.client.full.c.insert_one({"_id": 7})
        source.client.seen.c.insert_one({"_id": 7})
        target.client.seen.command({"create": "c", "viewOn": "x", "pipeline": []})
        yield source, target, alone


@pytest.fixture(scope="module")
def paused(sides: tuple[Side, Side, Mongod], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The journal of a job that is paused: the target has its collection with other options."""
    source, target, _ = sides
    source.client.moved.c.insert_many([{"_id": n} for n in range(10)])
    target.client.moved.create_collection("c", capped=True, size=4096)
    folder = tmp_path_factory.mktemp("paused")
    ended = ferrylog(
        *("start", "--journal", str(folder / "ferrylog.db"), "-d", "moved"),
        env={"FERRYLOG_SOURCE": source.uri(), "FERRYLOG_TARGET": target.uri()},
    )
    assert ended.returncode == 5, ended.stderr
    (folder / "ferrylog.db.lease").unlink()
    shutil.rmtree(folder / "ferrylog.db.d", ignore_errors=True)
    return folder


def a_place(
    sides: tuple[Side, Side, Mongod], paused: Path, factory: pytest.TempPathFactory
) -> Place:
    folder, secrets = factory.mktemp("case"), factory.mktemp("secrets")
    return Place(*sides, folder=folder, paused=paused, secrets=secrets)


@pytest.fixture
def place(
    sides: tuple[Side, Side, Mongod], paused: Path, tmp_path_factory: pytest.TempPathFactory
) -> Place:
    return a_place(sides, paused, tmp_path_factory)


# --- running --------------------------------------------------------------------------------------


def ferrylog(
    *arguments: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return program.ferrylog(*arguments, env={**os.environ, **(env or {})}, timeout_s=60)


def assert_no_leak(ended: subprocess.CompletedProcess[str], folder: Path) -> None:
    """I45: the canary is in no output and in no file that ferrylog made."""
    shown = {"stdout": ended.stdout.encode(), "stderr": ended.stderr.encode()}
    written = {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    leaks = [
        (where, form)
        for where, content in {**shown, **written}.items()
        for form in LEAKS
        if form in content
    ]
    assert not leaks


@dataclass
class Refusal:
    """What is done, and what must come of it."""

    do: Callable[[Place], list[str]]
    code: str
    exit_code: int
    says: tuple[str, ...] = ()
    """Fragments of the message; `{name}` stands for a part of the place."""
    env: Callable[[Place], Mapping[str, str]] | None = None


def start(*more: str, **ends: Callable[[Place], str]) -> Callable[[Place], list[str]]:
    """`ferrylog start` with both sides by file."""

    def arguments(place: Place) -> list[str]:
        named = {role: make(place) for role, make in ends.items()}
        return ["start", *place.ends(**named), "--journal", str(place.journal), *more]

    return arguments


def on_journal(
    command: str, prepare: Callable[[Path], object], *more: str, ends: bool = True
) -> Callable[[Place], list[str]]:
    """A command on a journal that was prepared; it begins as that of a paused job."""

    def arguments(place: Place) -> list[str]:
        prepare(place.copy_of_paused())
        named = place.ends() if ends else []
        return [command, *more, *named, "--journal", str(place.journal)]

    return arguments


def source_uri(**how: Any) -> Callable[[Place], str]:
    return lambda place: place.source.uri(**how)


def target_uri(**how: Any) -> Callable[[Place], str]:
    return lambda place: place.target.uri(**how)


def raw(role: str, template: str) -> Callable[[Place], str]:
    """A URI as it stands, `{host}` replaced."""
    return lambda place: template.replace("{host}", getattr(place, role).host)


# --- the table ------------------------------------------------------------------------------------

ESCAPED = quote_plus(CANARY)
NOWHERE = free_port()


BLIND = (
    *("insert", "createCollection", "createIndex", "bypassDocumentValidation", "find"),
    *("listCollections", "listIndexes", "dropCollection", "update", "remove"),
)
"""All that a target needs but `collStats`."""


def no_file(place: Path) -> None:
    place.unlink()


CONNECTIONS: dict[str, Refusal] = {
    "URI with an unescaped @": Refusal(
        start(source=raw("source", f"mongodb://ferry:{CANARY}@x@{{host}}/")),
        *("ECONN001", 2, ("source URI is not valid", "escape", "%40")),
    ),
    "URI with an unescaped %": Refusal(
        start(target=raw("target", f"mongodb://ferry:{CANARY}@{{host}}/")),
        *("ECONN001", 2, ("target URI is not valid", "%25")),
    ),
    "URI with an unescaped / behind a number": Refusal(
        start(source=raw("source", f"mongodb://ferry:4711/{ESCAPED}@{{host}}/")),
        *("ECONN001", 2, ("source URI is not valid",)),
    ),
    "URI of something else": Refusal(
        start(source=raw("source", f"http://ferry:{ESCAPED}@{{host}}/")),
        *("ECONN001", 2, ("mongodb://",)),
    ),
    "unknown URI option": Refusal(
        start(source=source_uri(options="bogusOption=1")),
        *("ECONN001", 2, ("source URI", "bogusoption")),
    ),
    "URI option given twice": Refusal(
        start(target=target_uri(options="w=majority&w=1")),
        *("ECONN001", 2, ("target URI", "Duplicate")),
    ),
    "unknown mechanism": Refusal(
        start(source=source_uri(options="authMechanism=BOGUS")),
        *("ECONN001", 2, ("source URI", "SCRAM-SHA-256")),
    ),
    "mechanism that needs another package": Refusal(
        start(source=raw("source", f"mongodb://ferry:{ESCAPED}@{{host}}/?authMechanism=GSSAPI")),
        *("ECONN001", 2, ("source", "kerberos")),
    ),
    "certificate file that is not there": Refusal(
        start(
            source=source_uri(
                options="tls=true&tlsCertificateKeyFile=/nowhere/key.pem"
                f"&tlsCertificateKeyFilePassword={ESCAPED}"
            )
        ),
        *("ECONN001", 2, ("source", "/nowhere/key.pem")),
    ),
    "authority file that is none": Refusal(
        start(source=source_uri(options="tls=true&tlsCAFile=/etc/hostname")),
        *("ECONN001", 2, ("source", "certificate")),
    ),
    "load balancer that is none": Refusal(
        start(source=source_uri(options="loadBalanced=true")),
        *("ECONN001", 2, ("source", "load balanc")),
    ),
    "wrong password": Refusal(
        start(source=source_uri(password="wrong-" + CANARY)),
        *("ECONN003", 1, ("source at mongodb://{source}", "'ferry'", "authSource")),
    ),
    "wrong user on the target": Refusal(
        start(target=target_uri(user="nobody")),
        *("ECONN003", 1, ("target at mongodb://{target}", "'nobody'")),
    ),
    "no user where one is needed": Refusal(
        start(source=raw("source", "mongodb://{host}/")),
        *("ECONN004", 1, ("source at mongodb://{source}", "name a user?", "grant")),
    ),
    "no role on the source": Refusal(
        start("-d", "shop", source=lambda place: place.source.may_only(("read", "other"))),
        *("ECONN004", 1, ("source at mongodb://{source}", "shop", "read")),
    ),
    "read only on the target": Refusal(
        start("-d", "shop", target=lambda place: place.target.may_only(("read", "shop"))),
        *("ECONN004", 1, ("target at mongodb://{target}", "insert", "shop", "readWrite")),
    ),
    "restore only on the target": Refusal(
        start("-d", "shop", target=lambda place: place.target.may_only(("restore", "admin"))),
        *("ECONN004", 1, ("find", "on database shop", "read back")),
    ),
    "no right to measure the target": Refusal(
        start(
            *("-d", "full"),
            target=lambda place: place.target.may_do("blind", BLIND, "full"),
        ),
        *("ECONN004", 1, ("target at mongodb://{target}", "collStats", "full")),
    ),
    "standalone source": Refusal(
        start(source=lambda place: place.alone.uri),
        *("ECONN005", 1, ("source at", "standalone", "--replSet")),
    ),
    "standalone target": Refusal(
        start(target=lambda place: place.alone.uri),
        *("ECONN005", 1, ("target at", "standalone", "rs.initiate")),
    ),
    "same source and target": Refusal(
        start(target=source_uri()),
        *("ECONN006", 1, ("same deployment", "{source}")),
    ),
    "same source and target by another name": Refusal(
        start(target=lambda place: place.source.uri(host=f"localhost:{place.source.mongod.port}")),
        *("ECONN006", 1, ("same deployment",)),
    ),
    "w=1": Refusal(
        start(target=target_uri(options="w=1")), "ECONN007", 1, ("w=1", "--write-concern")
    ),
    "w=0": Refusal(start(target=target_uri(options="w=0")), "ECONN007", 1, ("w=0",)),
    "journal=false": Refusal(
        start(target=target_uri(options="journal=false")), "ECONN007", 1, ("journal=false",)
    ),
}

SELECTIONS: dict[str, Refusal] = {
    "no such database": Refusal(
        start("-d", "nope"), "ESOURCE001", 2, ("nope.*", "{source}", "--ns-include")
    ),
    "no such collection": Refusal(
        start("-d", "shop", "-c", "nope"), "ESOURCE001", 2, ("shop.nope",)
    ),
    "no such namespace": Refusal(start("--ns-include", "x*.y"), "ESOURCE001", 2, ("x*.y",)),
    "everything left out": Refusal(
        start("-d", "shop", "--ns-exclude", "*.orders"), "ESOURCE001", 2, ("shop.*",)
    ),
    "collection without database": Refusal(start("-c", "orders"), "EUSE001", 2, ("--db",)),
    "no name for a database": Refusal(start("-d", "a/b"), "EUSE001", 2, ("'a/b'",)),
    "target not empty": Refusal(
        start("-d", "full"), "ETARGET001", 1, ("full.c", "3 documents", "--drop")
    ),
    "target has a view of that name": Refusal(
        start("-d", "seen"), "ETARGET002", 1, ("seen.c", "a view", "--drop")
    ),
}

OPTIONS: dict[str, Refusal] = {
    "unknown option": Refusal(start("--bogus"), "EUSE001", 2, ("--bogus", "--help")),
    "unknown command": Refusal(lambda place: ["bogus"], "EUSE001", 2, ("bogus", "--help")),
    "chunk of no documents": Refusal(start("--chunk-docs", "0"), "EUSE001", 2, ("chunk-docs",)),
    "chunk of many documents": Refusal(start("--chunk-docs", "x"), "EUSE001", 2, ("chunk-docs",)),
    "chunk of few bytes": Refusal(start("--chunk-bytes", "9"), "EUSE001", 2, ("chunk-bytes",)),
    "weak write concern": Refusal(start("--write-concern", "1"), "EUSE001", 2, ("'1'", "majority")),
    "unknown conflict": Refusal(start("--on-conflict", "x"), "EUSE001", 2, ("on-conflict", "stop")),
    "no source": Refusal(
        lambda place: ["start", "--journal", str(place.journal)],
        *("EUSE001", 2, ("no source", "--source-uri-file", "FERRYLOG_SOURCE")),
    ),
    "no such URI file": Refusal(
        lambda place: ["start", "--source-uri-file", "/nowhere/uri", "--target", "x"],
        *("EUSE001", 2, ("source URI", "/nowhere/uri", "No such file")),
    ),
    "empty URI file": Refusal(
        lambda place: ["start", "--source-uri-file", place.file(""), "--target", "x"],
        *("EUSE001", 2, ("is empty", "source URI")),
    ),
    "setting in the environment that is no number": Refusal(
        start(),
        *("EUSE001", 2, ("FERRYLOG_RETRY_BASE_MS", "'soon'")),
        env=lambda place: {"FERRYLOG_RETRY_BASE_MS": "soon"},
    ),
    "work folder under a file": Refusal(
        start("-d", "shop", "--work-dir", "/etc/hostname/x"),
        *("EDISK002", 1, ("/etc/hostname/x", "Not a directory", "--work-dir")),
    ),
    "work folder that nobody may write": Refusal(
        start("-d", "shop", "--work-dir", "/proc/x"), "EDISK002", 1, ("/proc/x", "--work-dir")
    ),
}


def nothing(journal: Path) -> None:
    """Leave the copy as it is."""


def text_file(journal: Path) -> None:
    journal.write_text("no journal at all\n" * 400)
    journal.chmod(0o600)


def empty_file(journal: Path) -> None:
    os.truncate(journal, 0)


def other_database(journal: Path) -> None:
    journal.unlink()
    with closing(sqlite3.connect(journal)) as db:
        db.execute("CREATE TABLE events (x)")
        db.commit()
    journal.chmod(0o600)


def directory(journal: Path) -> None:
    journal.unlink()
    journal.mkdir()


def newer(journal: Path) -> None:
    with closing(sqlite3.connect(journal)) as db:
        db.execute("PRAGMA user_version = 99")


def open_to_others(journal: Path) -> None:
    journal.chmod(0o644)


def without_tip(journal: Path) -> None:
    Path(f"{journal}.tip").unlink()


def with_damaged_tip(journal: Path) -> None:
    tip = Path(f"{journal}.tip")
    content = bytearray(tip.read_bytes())
    for at in range(10, len(content), 16):
        content[at] ^= 1
    tip.write_bytes(content)


def older(journal: Path) -> None:
    """As if a copy from before the last events had been put back."""
    with closing(sqlite3.connect(journal)) as db:
        for (name,) in db.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'trigger'"
        ).fetchall():
            db.execute(f"DROP TRIGGER {name}")
        db.execute("DELETE FROM events WHERE seq > (SELECT max(seq) - 3 FROM events)")
        db.commit()


def altered(journal: Path) -> None:
    """One letter of one event."""
    with closing(sqlite3.connect(journal)) as db:
        for (name,) in db.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'trigger'"
        ).fetchall():
            db.execute(f"DROP TRIGGER {name}")
        db.execute("UPDATE events SET entity = 'moved.d' WHERE entity = 'moved.c' AND seq = 4")
        assert db.total_changes == 1
        db.commit()


def zeroed(journal: Path) -> None:
    """A page in the middle, as a dying disk leaves it."""
    with journal.open("r+b") as file:
        (size,) = struct.unpack_from(">H", file.read(18), 16)
        file.seek(size)
        file.write(b"\0" * size)


JOURNALS: dict[str, Refusal] = {
    "empty, to look": Refusal(
        on_journal("status", empty_file, ends=False), "EJOURNAL007", 1, ("it is empty",)
    ),
    "empty": Refusal(on_journal("resume", empty_file), "EJOURNAL007", 1, ("it is empty",)),
    "emptied": Refusal(on_journal("start", empty_file), "EJOURNAL005", 4, ("ends at seq 0",)),
    "database of another": Refusal(
        on_journal("start", other_database), "EJOURNAL001", 1, ("another application",)
    ),
    "directory": Refusal(on_journal("resume", directory), "EJOURNAL001", 1, ("regular file",)),
    "not there": Refusal(
        on_journal("resume", no_file), "EJOURNAL007", 1, ("no such file", "--journal")
    ),
    "newer": Refusal(on_journal("resume", newer), "EJOURNAL002", 1, ("format 99", "newer")),
    "open to others": Refusal(
        on_journal("resume", open_to_others), "EJOURNAL007", 1, ("0644", "chmod 600")
    ),
    "without tip": Refusal(
        on_journal("resume", without_tip), "EJOURNAL006", 4, ("missing", "--renew-tip")
    ),
    "damaged tip": Refusal(
        on_journal("resume", with_damaged_tip), "EJOURNAL006", 4, ("damaged", "--renew-tip")
    ),
    "older than its tip": Refusal(
        on_journal("resume", older), "EJOURNAL005", 4, ("3 events are missing", "put the newer")
    ),
    "older than its tip, to look": Refusal(
        on_journal("status", older, ends=False), "EJOURNAL005", 4, ("3 events are missing",)
    ),
    "altered": Refusal(
        on_journal("resume", altered), "EJOURNAL004", 4, ("seq 4", "last good event is seq 3")
    ),
    "altered, to replay": Refusal(
        on_journal("replay", altered, ends=False), "EJOURNAL004", 4, ("seq 4",)
    ),
    "zeroed page": Refusal(on_journal("resume", zeroed), "EJOURNAL004", 4, ("damaged",)),
}


def jobs(command: str, *more: str, ends: bool = False) -> Callable[[Place], list[str]]:
    return on_journal(command, nothing, *more, ends=ends)


def resumed_with(**ends: Callable[[Place], str]) -> Callable[[Place], list[str]]:
    def arguments(place: Place) -> list[str]:
        named = {role: make(place) for role, make in ends.items()}
        return ["resume", *place.ends(**named), "--journal", str(place.copy_of_paused())]

    return arguments


JOBS: dict[str, Refusal] = {
    "pause of a job that does not run": Refusal(
        jobs("pause"), "EJOB002", 2, ("is paused and no process runs it",)
    ),
    "pause of an unknown job": Refusal(
        jobs("pause", "20200101-000000-0000"), "EJOB001", 2, ("20200101-000000-0000",)
    ),
    "status of an unknown job": Refusal(
        jobs("status", "nope"), "EJOB001", 2, ("no job nope", "ferrylog jobs")
    ),
    "resume of an unknown job": Refusal(
        jobs("resume", "nope", ends=True), "EJOB001", 2, ("no job nope",)
    ),
    "replay of an unknown job": Refusal(jobs("replay", "nope"), "EJOB001", 2, ("no job nope",)),
    "resume with another source": Refusal(
        resumed_with(source=target_uri()),
        *("ERESUME001", 1, ("the source mongodb://{source}", "mongodb://{target}", "--new")),
    ),
    "resume with another target": Refusal(
        resumed_with(target=source_uri()),
        *("ERESUME001", 1, ("the target mongodb://{target}", "mongodb://{source}")),
    ),
    "started again with other settings": Refusal(
        jobs("start", "-d", "moved", "--chunk-docs", "7", ends=True),
        *("ERESUME003", 2, ("chunk_docs was 100000", "ferrylog resume", "--new")),
    ),
}

TABLES = {
    "connection": CONNECTIONS,
    "selection": SELECTIONS,
    "option": OPTIONS,
    "journal": JOURNALS,
    "job": JOBS,
}


CASES = {
    f"{table}: {name}": case for table, cases in TABLES.items() for name, case in cases.items()
}


@dataclass
class Tried:
    """All wanted cases, each in a process of its own, a few at a time."""

    target: Side
    before: dict[str, Any]
    ends: dict[str, Future[tuple[Place, subprocess.CompletedProcess[str]]]]


@pytest.fixture(scope="module")
def tried(
    sides: tuple[Side, Side, Mongod],
    paused: Path,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[Tried]:
    one_by_one = threading.Lock()

    def carry_out(case: Refusal) -> tuple[Place, subprocess.CompletedProcess[str]]:
        with one_by_one:
            place = a_place(sides, paused, tmp_path_factory)
            arguments = case.do(place)
            env = case.env(place) if case.env else None
        return place, ferrylog(*arguments, env=env)

    names = {
        each.callspec.params.get("name")
        for each in request.session.items
        if hasattr(each, "callspec")
    }
    with ThreadPoolExecutor(max_workers=3) as pool:
        before = sides[1].content()
        ends = {name: pool.submit(carry_out, case) for name, case in CASES.items() if name in names}
        yield Tried(sides[1], before, ends)


@pytest.mark.parametrize("name", CASES)
def test_refused_with_place_reason_and_remedy(tried: Tried, name: str) -> None:
    """Exit code, stable code, fragments, a remedy; no password anywhere."""
    refusal = CASES[name]
    place, ended = tried.ends[name].result()

    assert f"[{refusal.code}]" in ended.stderr, ended.stderr
    assert ended.returncode == refusal.exit_code, ended.stderr
    message, _, remedy = ended.stderr.partition("\n  → ")
    assert message
    assert remedy.strip(), "no remedy"
    for fragment in refusal.says:
        wanted = fragment.format(source=place.source.host, target=place.target.host)
        assert wanted in ended.stderr
    for noise in ("Traceback", "UserWarning", "4711"):
        assert noise not in ended.stderr
    assert_no_leak(ended, place.folder)


def test_no_refusal_wrote_to_the_target(tried: Tried) -> None:
    """P2, P10: what is refused has not begun."""
    for end in tried.ends.values():
        end.result()
    assert tried.target.content() == tried.before


def test_the_same_as_json(place: Place) -> None:
    """One JSON document on stdout, from the same error."""
    refusal = CONNECTIONS["wrong password"]
    ended = ferrylog("--json", *refusal.do(place))
    said = json.loads(ended.stdout)
    assert said["schema"] == "ferrylog.error/1"
    assert (said["code"], said["exit_code"]) == (refusal.code, refusal.exit_code)
    assert said["message"]
    assert said["remedy"]
    assert ended.returncode == refusal.exit_code
    assert_no_leak(ended, place.folder)


def test_check_finds_everything_at_once(place: Place) -> None:
    """Preflight reports both sides, each finding with its remedy."""
    ends = place.ends(place.source.uri(password=CANARY + "x"), place.target.uri(options="w=1"))
    ended = ferrylog("check", *ends, "--json")
    report = json.loads(ended.stdout)
    assert [each["code"] for each in report["findings"]] == ["ECONN003", "ECONN007"]
    assert all(each["remedy"] for each in report["findings"])
    assert ended.returncode == 1
    assert_no_leak(ended, place.folder)


def test_a_password_in_the_arguments_is_warned_of(place: Place) -> None:
    ends = ("--source", place.source.uri(password="x" + CANARY), "--target", place.target.uri())
    ended = ferrylog("start", *ends, "--journal", str(place.journal))
    assert ended.returncode == 1
    assert "visible in the process list" in ended.stderr
    assert "[ECONN003]" in ended.stderr
    assert_no_leak(ended, place.folder)


def test_an_unreachable_host_shows_no_password_to_ps(place: Place) -> None:
    """ECONN002, and while it tries for seconds, nobody who lists processes learns the password."""
    gone = f"mongodb://ferry:{ESCAPED}@127.0.0.1:{NOWHERE}/"
    with subprocess.Popen(
        [FERRYLOG, "start", "--source-uri-file", place.file(gone), "--journal", str(place.journal)],
        env={**os.environ, "FERRYLOG_TARGET": place.target.uri()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        ps = ["ps", "-ww", "-o", "args", "-p", str(process.pid)]  # others run beside us
        listed = subprocess.run(ps, capture_output=True, check=True)
        seen = [listed.stdout]
        while process.poll() is None:
            seen.append(Path(f"/proc/{process.pid}/cmdline").read_bytes())
            time.sleep(0.2)
        stdout, stderr = process.communicate()
    ended = subprocess.CompletedProcess([], process.returncode, stdout, stderr)
    assert ended.returncode == 1
    assert f"[ECONN002]: cannot reach the source at mongodb://127.0.0.1:{NOWHERE}/" in stderr
    assert "→ check host, port" in stderr
    assert any(b"--source-uri-file" in each for each in seen)
    assert not [form for form in LEAKS if any(form in each for each in seen)]
    assert_no_leak(ended, place.folder)


def test_a_journal_held_by_another(place: Place) -> None:
    """Exit 7 names the process that holds it; looking is still possible."""
    journal = place.copy_of_paused()
    with Path(f"{journal}.lease").open("w") as lease:
        fcntl.flock(lease, fcntl.LOCK_EX)
        lease.write('{"pid": 4242, "host": "elsewhere", "since": "yesterday"}')
        lease.flush()
        ended = ferrylog("resume", *place.ends(), "--journal", str(journal))
        looked = ferrylog("status", "--journal", str(journal))
    assert ended.returncode == 7
    assert "[EJOURNAL003]" in ended.stderr
    assert "process 4242 on elsewhere since yesterday" in ended.stderr
    assert looked.returncode == 0
    assert_no_leak(ended, place.folder)


@pytest.mark.parametrize("again", [True, False])
def test_a_collection_that_is_another_one_now(place: Place, *, again: bool) -> None:
    """Dropped, perhaps made again: going on would join two collections without a word."""
    source, target = place.source.client, place.target.client
    source.drop_database("dropped")
    target.drop_database("dropped")
    source.dropped.c.insert_one({"_id": 1})
    target.dropped.create_collection("c", capped=True, size=4096)
    ends = [*place.ends(), "--journal", str(place.journal)]
    assert ferrylog("start", "-d", "dropped", *ends).returncode == 5
    source.dropped.c.drop()
    if again:
        source.dropped.c.insert_one({"_id": 1})
    before = place.target.content()

    ended = ferrylog("resume", *ends)

    assert ended.returncode == 1
    assert "[ERESUME002]: dropped.c on the source is not the collection" in ended.stderr
    assert ("there is none" in ended.stderr) is not again
    assert "→ it was dropped" in ended.stderr
    assert place.target.content() == before
    assert_no_leak(ended, place.folder)


def test_the_roles_that_the_remedies_name_are_enough(place: Place) -> None:
    """ECONN004 says what to grant; whoever does so can migrate, index and verify."""
    source, target = place.source, place.target
    source.client.granted.c.insert_many([{"_id": n, "e": n} for n in range(10)])
    source.client.granted.c.create_index("e", unique=True)
    source.client.granted.c.create_index([("e", -1)])
    target.client.drop_database("granted")
    reader = source.may_only(("read", "granted"))
    writer = target.may_only(("readWrite", "granted"), ("dbAdmin", "granted"))
    ends = place.ends(reader, writer)

    ended = ferrylog("start", "-d", "granted", "--drop", *ends, "--journal", str(place.journal))

    assert ended.returncode == 0, ended.stderr
    assert target.client.granted.c.count_documents({}) == 10
    assert len(target.client.granted.c.index_information()) == 3
    assert_no_leak(ended, place.folder)


def test_databases_that_the_user_cannot_see_are_not_left_out_in_silence(place: Place) -> None:
    """P10: a server lists only what its user may see. All was asked for, so all must be seen."""
    reader = place.source.may_only(("read", "shop"))
    before = place.target.content()
    ended = ferrylog("start", *place.ends(reader), "--journal", str(place.journal))
    after = place.target.content()
    place.target.client.drop_database("shop")
    assert ended.returncode == 1, ended.stderr
    assert "[ECONN004]" in ended.stderr
    assert "listDatabases" in ended.stderr
    assert after == before


def test_an_empty_file_becomes_a_journal(place: Place) -> None:
    """A process that died between making the file and laying it out left no more than that. And
    once the job has ended, resuming says so and changes nothing (I13)."""
    place.journal.touch(mode=0o600)
    place.target.client.drop_database("shop")
    ends = [*place.ends(), "--journal", str(place.journal)]
    ended = ferrylog("start", "-d", "shop", *ends)
    assert ended.returncode == 0, ended.stderr
    before = place.target.content()

    again = ferrylog("resume", *ends)

    assert again.returncode == 0, again.stderr
    assert place.target.content() == before
    assert_no_leak(again, place.folder)
    place.target.client.drop_database("shop")


def test_the_foreign_file_is_left_alone(place: Place) -> None:
    """A file that is no journal is not changed by being refused."""
    text_file(place.journal)
    before = place.journal.read_bytes()
    for command in ("start", "resume", "status"):
        ends = place.ends() if command != "status" else []
        ended = ferrylog(command, *ends, "--journal", str(place.journal))
        assert ended.returncode == 1
        assert "[EJOURNAL001]" in ended.stderr
        assert "not a ferrylog journal" in ended.stderr
        assert "--journal" in ended.stderr
    assert place.journal.read_bytes() == before


# --- full disks -----------------------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of this size; skips loudly where it cannot be mounted."""
    disk = folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", disk],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here: full disks are NOT tested")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.fixture
def big(place: Place) -> Iterator[str]:
    """A database of 12 MB that cannot be compressed, and room for it on the target."""
    place.source.client.big.c.drop()
    place.source.client.big.c.insert_many(
        [{"_id": n, "pad": os.urandom(12_000)} for n in range(1_000)]
    )
    place.target.client.drop_database("big")
    yield "big"
    place.source.client.drop_database("big")
    place.target.client.drop_database("big")


def test_a_full_disk_pauses_and_resume_completes(place: Place, big: str, tmp_path: Path) -> None:
    """EDISK001: nothing is lost, the job pauses (exit 5) and goes on once there is room."""
    with small_disk(tmp_path, "16m") as disk:
        filler = disk / "filler"
        filler.write_bytes(bytes(14 << 20))
        work = ["--work-dir", str(disk / "work"), "--journal", str(place.journal)]

        ended = ferrylog("start", "-d", big, "--chunk-docs", "250", *place.ends(), *work)

        assert ended.returncode == 5, ended.stderr
        assert "EDISK001" in ended.stderr
        assert "No space left on device" in ended.stderr
        assert "resume with: ferrylog resume" in ended.stderr
        assert not list(disk.rglob("*.tmp"))
        assert_no_leak(ended, place.folder)
        filler.unlink()

        again = ferrylog("resume", *place.ends(), *work)

        assert again.returncode == 0, again.stderr
        assert place.target.client.big.c.count_documents({}) == 1_000
        assert not list(disk.rglob("*.flb"))
        assert_no_leak(again, place.folder)


def test_a_full_disk_under_the_journal(place: Place, big: str, tmp_path: Path) -> None:
    """EJOURNAL008: an append that failed is read again, never believed; resume completes."""
    with small_disk(tmp_path, "160k") as disk:
        journal = ["--journal", str(disk / "ferrylog.db"), "--work-dir", str(tmp_path / "work")]

        ended = ferrylog("start", "-d", big, "--chunk-docs", "10", *place.ends(), *journal)

        assert ended.returncode == 5, ended.stderr
        assert "[EJOURNAL008]" in ended.stderr
        assert "ferrylog resume" in ended.stderr
        assert_no_leak(ended, place.folder)
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)

        again = ferrylog("resume", *place.ends(), *journal)

        assert again.returncode == 0, again.stderr
        assert place.target.client.big.c.count_documents({}) == 1_000
        assert_no_leak(again, disk)


def test_the_canary_is_found_where_it_is() -> None:
    """The net itself: every form is caught, so that an empty catch means something."""
    for shown in (CANARY, ESCAPED, quote(CANARY, safe="!")):
        for around in ("", "x", "xy", "xyz"):
            whole = f"{around}{shown}{around}".encode()
            assert any(form in whole for form in LEAKS)
            assert any(form in base64.b64encode(whole) for form in LEAKS)
