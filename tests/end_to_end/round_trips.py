"""Round trips with the real mongodump and mongorestore: what survives which way.

    python -m tests.end_to_end.round_trips

prints a table for people: each namespace, each of its features, each direction. A server is
dumped by one side and restored by the other, in every layout that both know, and the two servers
are compared by plain commands. What mongorestore leaves of our dump and leaves to the byte of
mongodump's own is its own doing: `theirs`.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple
from unicodedata import is_normalized

from bson import Int64, Regex
from pymongo import MongoClient

from ferrylog.embedded import Mongod
from tests.conftest import OWN, Pair
from tests.end_to_end import every_kind
from tests.end_to_end.test_main_job import FERRYLOG, Terminal

TOOLS: Final = ("mongodump", "mongorestore")
FEATURES: Final = ("type", "options", "indexes", "documents")
ACCOUNTS: Final = ("admin.system.users", "admin.system.roles")
_DUMP: Final = re.compile("(^|=)D(?=/|$)")
EQUAL, THEIRS, OURS = "=", "theirs", "OURS"
Found = dict[str, dict[str, Any]]
"""What a server holds: feature by feature, by namespace."""
Verdicts = dict[tuple[str, str], str]
"""Of each namespace and feature: equal, or whose doing it is that it is not."""


class Way(NamedTuple):
    """Words for who dumps and who restores. `D` is the dump; without it, it goes by a pipe."""

    dump: tuple[str, ...]
    restore: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.direction}: {self.layout}"

    @property
    def direction(self) -> str:
        return f"{self.dump[0]} → {self.restore[0]}"

    @property
    def layout(self) -> str:
        shape = "archive" if any("archive" in word for word in self.dump) else "directory"
        told = [shape] + ["gzip"] * ("--gzip" in self.dump) + ["pipe"] * self.is_pipe
        return ", ".join(told + [word for word in self.restore if word in KEEP])

    @property
    def is_pipe(self) -> bool:
        return not any(map(_DUMP.search, self.dump))


_DOWN = ("ferrylog", "dump", "--users-and-roles", "--chunk-docs", "100")
_UP = ("ferrylog", "restore", "--users-and-roles", "--chunk-docs", "100")
_TREE = ("--layout", "mongodump", "--out", "D")
KEEP: Final = ("--bypassDocumentValidation", "--keepIndexVersion")
"""With these, mongorestore leaves documents and indexes as they were."""
FROM_US: Final = (
    Way((*_DOWN, *_TREE), ("mongorestore", "D")),
    Way((*_DOWN, *_TREE, "--gzip"), ("mongorestore", "--gzip", "D")),
    Way((*_DOWN, "--archive", "D"), ("mongorestore", "--archive=D")),
    Way((*_DOWN, "--archive", "D", "--gzip"), ("mongorestore", "--archive=D", "--gzip")),
    Way((*_DOWN, "--archive", "-"), ("mongorestore", "--archive")),
)
TO_US: Final = (
    Way(("mongodump", "--out", "D"), (*_UP, "--from", "D")),
    Way(("mongodump", "--gzip", "--out", "D"), (*_UP, "--from", "D")),
    Way(("mongodump", "--archive=D"), (*_UP, "--archive", "D")),
    Way(("mongodump", "--archive=D", "--gzip"), (*_UP, "--archive", "D")),
    Way(("mongodump", "--archive"), (*_UP, "--archive", "-")),
)
CONTROL: Final = Way(("mongodump", "--out", "D"), ("mongorestore", "D"))
"""What becomes of it all without us."""
CAREFUL: Final = Way((*_DOWN, *_TREE), ("mongorestore", *KEEP, "D"))
_DB, _ONE = ("-d", "kinds"), ("-d", "kinds", "-c", "indexed")
IN_PARTS: Final = {
    Way((*_DOWN[:2], *_ONE, *_TREE), ("mongorestore", *_ONE, "D/kinds/indexed.bson")): _ONE,
    Way((*_DOWN[:2], *_DB, *_TREE), ("mongorestore", *_DB, "D/kinds")): _DB,
    Way((*_DOWN, "--archive", "D"), ("mongorestore", "--archive=D", "--nsInclude", "kinds.*")): _DB,
    Way(
        ("mongodump", *_ONE, "--out", "D"), (*_UP[:2], *_ONE, "--from", "D/kinds/indexed.bson")
    ): _ONE,
    Way(("mongodump", *_DB, "--gzip", "--out", "D"), (*_UP[:2], *_DB, "--gzip", "D/kinds")): _DB,
    Way(("mongodump", "--archive=D"), (*_UP[:2], "--archive", "D", "--nsInclude", "kinds.*")): _DB,
    Way(("mongodump", "--oplog", "--out", "D"), (*_UP[:2], *_DB, "--from", "D")): _DB,
}
"""And what of everything they carry."""


DATABASES: Final = ("Größe", "-d", "a%2Fb", "a+b", "d" * 63, "日本", "x,y;z", "~", "con", "admins")


def names() -> Iterable[str]:
    """Of collections: what a file system, a shell, an escape or a suffix could stumble over."""
    yield from ("a+b", "a b", "%", "%zz", "100%25", "a\\b", "*", "?[x]", '"', "'", "`x`", "~", "#")
    yield from (
        "é",
        "e\u0301",
        "日本",
        "🦦",
        "\t",
        "x.",
        "x..",
        "a.b.c",
        "-",
        "--drop",
        "a:b",
        "a=b&c",
    )
    yield from ("x.bson", "x.metadata", "x.metadata.json", "x.bson.gz", "oplog", "prelude.json")
    yield from ("manifest.json", "nul", "X", "x", "systemx", "timeseries", "fs.files", "a|b")
    yield from ("/" * 100 + "1", "/" * 100 + "2", "ü" * 60, "n" * 236, "N" * 236)


def load(client: MongoClient[Any]) -> None:
    """Everything of `every_kind`, and what may go wrong between two tools."""
    every_kind.load(client)
    for name in names():
        client.get_database("names").command("insert", name, documents=[{"_id": name}])
    for name in DATABASES:
        client.get_database(name).command("insert", "c", documents=[{"_id": name}])
    client.admin.command("insert", "own", documents=[{"_id": 1}])
    _old(client.get_database("old"))
    _strange(client.get_database("strange"))
    _accounts(client)


def _old(db: Any) -> None:
    """What servers of today still take, and once made themselves."""
    of_old: dict[str, dict[str, Any]] = {
        "v1": {"key": {"a": 1}, "name": "a_1", "v": 1},
        "places": {"key": {"at": "2dsphere"}, "name": "sphere", "2dsphereIndexVersion": 2},
        "words": {"key": {"t": "text"}, "name": "words", "textIndexVersion": 2},
        "keys": {"key": {"a": 1.5, "b": -7, "c": Int64(1)}, "name": "odd numbers"},
        "background": {"key": {"a": 1}, "name": "bg", "background": True, "sparse": 1},
    }
    for name, index in of_old.items():
        db.command("insert", name, documents=[{"_id": 1, "a": 1, "at": [1, 2], "t": "ein Wort"}])
        db.command("createIndexes", name, indexes=[index])


def _strange(db: Any) -> None:
    """What is rare."""
    indexes = [
        {"key": {"y": 1}, "name": "parts", "expireAfterSeconds": 3600.5},
        {"key": {"v": 1}, "name": "nan", "expireAfterSeconds": float("nan")},
        {"key": {"x": 1}, "name": 'a"b\\c\n', "unique": 1.5},
    ]
    db.command("insert", "indexes", documents=[{"_id": 1}])
    db.command("createIndexes", "indexes", indexes=indexes)
    rule = {"a": {"$regex": "^x"}, "b": Regex("y", "mi")}
    db.command("create", "rule", validator=rule, validationAction="warn")
    db.command("create", "lasting", clusteredIndex={"key": {"_id": 1}, "unique": True})
    db.command("create", "past", timeseries={"timeField": "at"})
    years = (1950, 2020, 2200)
    db.past.insert_many([{"at": datetime(year, 1, 1, tzinfo=UTC), "y": year} for year in years])
    db.command("create", "a view of a series", viewOn="past", pipeline=[])
    moment = {
        "$match": {"d": datetime(2020, 1, 1, tzinfo=UTC), "r": Regex("x", "i"), "n": Int64(5)}
    }
    db.command("create", "typed", viewOn="indexes", pipeline=[moment])
    db.command("create", "of nothing", viewOn="not there", pipeline=[], collation={"locale": "de"})


def _accounts(client: MongoClient[Any]) -> None:
    privilege = {"resource": {"db": "kinds", "collection": ""}, "actions": ["find"]}
    client.admin.command("createRole", "reader", privileges=[privilege], roles=["backup"])
    client.kinds.command("createRole", "local reader", privileges=[privilege], roles=[])
    client.admin.command("createUser", "root of all", pwd="s", roles=["root", "reader"])
    told = {"note": "x"}
    client.kinds.command("createUser", "ann", pwd="s", roles=["local reader"], customData=told)


def read(client: MongoClient[Any]) -> Found:
    """All of `every_kind.read`, and of `admin` what is not the server's own."""
    found: Found = every_kind.read(client)
    for namespace in (*ACCOUNTS, "admin.own"):
        name = namespace.partition(".")[2]
        rows = client.admin.get_collection(name, codec_options=every_kind.RAW).find()
        if documents := sorted(bytes(each.raw) for each in rows):
            found[namespace] = {"documents": documents}
    return found


def empty(client: MongoClient[Any]) -> None:
    """Of all that `load` brings."""
    for name in client.list_database_names():
        if name not in OWN:
            client.drop_database(name)
    client.admin.own.drop()
    for name in ("admin", "kinds"):
        client[name].command("dropAllUsersFromDatabase")
        client[name].command("dropAllRolesFromDatabase")


@dataclass
class Trip:
    """What came of one way."""

    codes: tuple[int, int]
    """Exit codes of who dumped and who restored."""
    told: str
    found: Found = field(repr=False)
    """On the target."""
    verdicts: Verdicts = field(default_factory=dict, repr=False)

    def unequal(self) -> list[str]:
        found = [(*key, told) for key, told in self.verdicts.items() if told != EQUAL]
        return [f"{name}: {feature}: {told}" for name, feature, told in sorted(found)]


class Traveller:
    """Goes ways from one server to another, in a folder of its own."""

    def __init__(self, folder: Path, pair: Pair) -> None:
        self._folder, self._pair, self._ways = folder, pair, 0
        self._source = read(pair.source_client)
        self._control: Trip | None = None

    def go(self, way: Way) -> Trip:
        """The target is empty before, and full after."""
        trip = self._go(way)
        for name in self._source.keys() | trip.found.keys():
            mine, back = self._source.get(name, {}), trip.found.get(name, {})
            for feature in mine.keys() | back.keys():
                same = mine.get(feature) == back.get(feature)
                told = EQUAL if same else self._whose(way, name, feature, back.get(feature))
                trip.verdicts[name, feature] = told
        return trip

    def _whose(self, way: Way, name: str, feature: str, left: Any) -> str:
        if way.restore[0] != "mongorestore":
            return OURS
        if way.dump[0] != "mongodump" and self._control is None:
            self._control = self._go(CONTROL)
        control = self._control.found.get(name, {}).get(feature) if self._control else left
        return THEIRS if control == left else OURS

    def _go(self, way: Way) -> Trip:
        empty(self._pair.target_client)
        self._ways += 1
        folder = self._folder / str(self._ways)
        folder.mkdir()
        down = self._command(way.dump, folder / "dump", self._pair.source)
        up = self._command(way.restore, folder / "dump", self._pair.target)
        environment = Terminal(folder, self._pair).environment
        with (folder / "told").open("w+b") as told:
            codes = _run(down, up, environment, told, pipe=way.is_pipe)
            told.seek(0)
            text = told.read().decode(errors="replace")
        shutil.rmtree(folder)
        return Trip(codes, text, read(self._pair.target_client))

    @staticmethod
    def _command(words: Sequence[str], dump: Path, server: Mongod) -> list[str]:
        tool = FERRYLOG if words[0] == "ferrylog" else (words[0], "--uri", server.uri)
        rest = [_DUMP.sub(rf"\1{dump}", word) for word in words[1:]]
        return [*tool, *rest]


def _run(
    down: list[str], up: list[str], env: dict[str, str], told: Any, *, pipe: bool
) -> tuple[int, int]:
    common: dict[str, Any] = {"env": env, "stderr": told}
    if not pipe:
        first = subprocess.run(down, **common, stdout=told, timeout=120, check=False).returncode
        return first, subprocess.run(up, **common, stdout=told, timeout=120, check=False).returncode
    with subprocess.Popen(down, **common, stdout=subprocess.PIPE) as process:
        second = subprocess.run(
            up, **common, stdin=process.stdout, stdout=told, timeout=120, check=False
        )
    return process.returncode, second.returncode


@contextmanager
def loaded_servers(folder: Path) -> Iterator[Pair]:
    """Two throw-away servers, the source full."""
    with Mongod(folder / "s", name="source") as s, Mongod(folder / "t", name="target") as t:
        pair = Pair(s, t, MongoClient(s.uri), MongoClient(t.uri))
        load(pair.source_client)
        yield pair


def table(trips: dict[Way, Trip]) -> Iterator[str]:
    """Markdown: in each cell what is true of every layout, or the worst of them."""
    directions = list(dict.fromkeys(way.direction for way in trips))
    keys = sorted({name for trip in trips.values() for name, _ in trip.verdicts})
    first, *rest = FEATURES
    heads = [head for direction in directions for head in (f"{direction}: {first}", *rest)]
    yield f"| namespace | {' | '.join(heads)} |"
    yield f"|{' --- |' * (len(heads) + 1)}"
    for name in keys:
        cells = [_cell(trips, each, name, it) for each in directions for it in FEATURES]
        yield f"| {_shown(name)} | {' | '.join(cells)} |"


def _cell(trips: dict[Way, Trip], direction: str, name: str, feature: str) -> str:
    """Empty for what a namespace does not have: documents of a view."""
    of_it = [trip for way, trip in trips.items() if way.direction == direction]
    told = {trip.verdicts.get((name, feature), "") for trip in of_it}
    return next((worst for worst in (OURS, THEIRS, EQUAL) if worst in told), "")


def _shown(name: str) -> str:
    """As code that Markdown leaves alone, repetitions told."""
    short = re.sub(r"(.)\1{19,}", lambda run: f"{run[1]}…×{len(run[0])}…", name)
    legible = short.isprintable() and is_normalized("NFC", short)
    plain = short if legible else ascii(short)[1:-1]
    return f"`` {plain.replace('|', chr(92) + '|')} ``"


def versions(client: MongoClient[Any]) -> str:
    told = subprocess.run(["mongodump", "--version"], capture_output=True, text=True, check=True)
    tool = told.stdout.partition("\n")[0].rpartition(" ")[2]
    return f"mongodump and mongorestore {tool}, MongoDB {client.server_info()['version']}."


def main() -> int:
    if lost := [tool for tool in TOOLS if shutil.which(tool) is None]:
        sys.exit(f"not on PATH: {', '.join(lost)}")
    trips: dict[Way, Trip] = {}
    with tempfile.TemporaryDirectory() as name, loaded_servers(Path(name)) as pair:
        traveller = Traveller(Path(name), pair)
        for way in (CONTROL, *FROM_US, *TO_US, CAREFUL):
            trip = traveller.go(way)
            print(f"{way}: exit {trip.codes}; unequal: {trip.unequal()}", file=sys.stderr)
            if way not in (CONTROL, CAREFUL):
                trips[way] = trip
        print(versions(pair.source_client), end="\n\n")
    print("\n".join(table(trips)))
    return any(OURS in trip.verdicts.values() or any(trip.codes) for trip in trips.values())


if __name__ == "__main__":
    sys.exit(main())
