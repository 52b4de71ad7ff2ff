"""A dump as the source of a job: its units, where their documents lie, what of it is refused; and
the dump itself stays as it is (I21, I22, I24, P10)."""

import gzip
import hashlib
import io
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import bson
import pytest

from executors.boundaries import from_text
from executors.dumps.errors import DamagedDump, NoDump
from executors.dumps.manifest import MANIFEST, Facts, read_facts, read_manifest, write_manifest
from executors.dumps.model import Damage, Dumped, NeverStops
from executors.dumps.named import UNPACKED, identity_of, open_archive, what_lies_there
from executors.dumps.restoring import DumpSource
from executors.flaws import Code
from executors.partfile import file_blocks
from executors.protocol import Stopped
from executors.rawbson import documents
from executors.select import TwoBecomeOne
from statemachine.events import JobSpec
from statemachine.stimuli import PlannedFiles, Surveyed
from statemachine.words import Key, UnitId
from tests.executors.dumps.archives import block, end, entry, interleaved, prelude
from tests.executors.dumps.archives import document as numbered
from tests.executors.dumps.test_manifest import block as block_of
from tests.executors.dumps.test_manifest import chunk
from tests.executors.examples import Looks, plain_unit, spec

Files = dict[str, bytes]
PLAIN = [bson.encode({"_id": n, "text": "x" * (n % 7)}) for n in range(100)]
SERVERS = ("local.oplog", "config.chunks", "shop.system.profile")


def metadata(**options: Any) -> bytes:
    return json.dumps({"options": options, "indexes": []}).encode()


USERS = bson.encode({"_id": "shop.ann", "user": "ann", "db": "shop"})
DIRECTORY: Files = {
    "shop/a.bson": b"".join(PLAIN),
    "shop/a.metadata.json": metadata(),
    "shop/packed.bson.gz": gzip.compress(b"".join(PLAIN)),
    "shop/packed.metadata.json.gz": gzip.compress(metadata()),
    "shop/none.bson": b"",
    "shop/capped.bson": b"".join(PLAIN),
    "shop/capped.metadata.json": metadata(capped=True, size=4096),
    "shop/view.metadata.json": metadata(viewOn="a", pipeline=[]),
    "shop/ts.metadata.json": metadata(timeseries={"timeField": "t"}),
    "shop/system.buckets.ts.bson": PLAIN[0],
    "admin/system.users.bson": USERS,
    "admin/system.roles.bson": USERS,
    "config/chunks.bson": PLAIN[0],
    "blog/posts.bson": PLAIN[0],
    "oplog.bson": PLAIN[0],
}
ALL = {"blog.posts", *(f"shop.{name}" for name in ("a", "packed", "none", "capped", "view", "ts"))}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory as mongodump leaves it."""
    root = tmp_path / "dump"
    for name, content in DIRECTORY.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def asked(path: Path | str, **changes: Any) -> JobSpec:
    fields = {"kind": "restore", "source": f"file:{path}", "include": (), "exclude": ()}
    return spec(**{**fields, "chunk_docs": 30, **changes})


def source(
    path: Path, work: Path, archive: Callable[[], BinaryIO] = io.BytesIO, **changes: Any
) -> DumpSource:
    return DumpSource(asked(path, **changes), work, lambda _: archive())


def found(surveyed: Surveyed) -> set[str]:
    return {each.unit for each in surveyed.units}


def planned(dump: DumpSource, name: str) -> PlannedFiles:
    return dump.plan(plain_unit(name), Looks())


def held(dump: DumpSource, planned: PlannedFiles) -> list[bytes]:
    """The documents of a plan, read where it says that they lie."""
    read: list[bytes] = []
    for each in planned.files:
        path = dump.path(plain_unit("shop.a"), each.file, Looks())
        raw = path.read_bytes()[each.file.at : each.file.at + each.file.file_bytes]
        assert hashlib.sha256(raw).hexdigest() == each.file.sha256
        here = [one for each_, _ in file_blocks(path, each.file) for one in documents(each_.data)]
        assert (len(here), sum(map(len, here))) == (each.file.documents, each.file.bytes)
        read += here
    return read


def tree(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


# --- units ----------------------------------------------------------------------------------------


def test_a_survey_finds_what_was_dumped(root: Path, work: Path) -> None:
    """What belongs to the server that was dumped stays in the dump, and is named (P10)."""
    surveyed = source(root, work).survey(Looks())
    units = {each.unit: each for each in surveyed.units}
    assert units.keys() == ALL
    assert [units[UnitId(f"shop.{name}")].type for name in ("a", "view", "ts")] == [
        "collection",
        "view",
        "timeseries",
    ]
    assert bson.decode(from_text(units[UnitId("shop.capped")].options)) == {
        "capped": True,
        "size": 4096,
    }
    assert all(each.target == each.unit and not each.documents for each in surveyed.units)
    assert units[UnitId("shop.a")].bytes == len(DIRECTORY["shop/a.bson"])
    notes = "\n".join(surveyed.notes)
    for name in ("admin.system.users", "admin.system.roles", "config.chunks", "oplog.bson"):
        assert name in notes


@pytest.mark.parametrize(
    ("changes", "added", "names"),
    [
        ({"include": ("shop.*",), "exclude": ("*.[!a]*",)}, (), {"shop.a"}),
        ({"include": ("shop.a", "blog.*")}, (), {"shop.a", "blog.posts"}),
        ({"include": ("blog.*",)}, ("shop.a",), {"shop.a", "blog.posts"}),
        ({"include": ("admin.*", "config.*", "shop.a")}, (), {"shop.a"}),
        ({"include": ("nobody.*",)}, (), set()),
    ],
)
def test_what_is_selected(
    root: Path, work: Path, changes: dict[str, Any], added: tuple[str, ...], names: set[str]
) -> None:
    assert found(source(root, work, **changes).survey(Looks(), added)) == names


def test_users_and_roles_come_when_asked_for(root: Path, work: Path) -> None:
    """They are laid beside those of the target, and their last touch merges them."""
    surveyed = source(root, work, users=True).survey(Looks())
    users = {each.unit: each for each in surveyed.units if each.unit.startswith("admin.")}
    assert {unit: each.target for unit, each in users.items()} == {
        "admin.system.users": "admin.tempusers",
        "admin.system.roles": "admin.temproles",
    }
    assert all(each.expires for each in users.values())
    assert not any("--users-and-roles" in note for note in surveyed.notes)
    without = source(root, work, users=True, exclude=("admin.system.roles",)).survey(Looks())
    assert "admin.system.roles" not in found(without)


def test_names_on_the_target(root: Path, work: Path) -> None:
    renamed = source(root, work, renames=(("shop.*", "old.*"),)).survey(Looks())
    assert {each.target for each in renamed.units} == {
        each.replace("shop.", "old.") for each in ALL
    }
    twice = (("shop.a", "x.y"), ("shop.none", "x.y"))
    with pytest.raises(TwoBecomeOne):
        source(root, work, renames=twice).survey(Looks())


# --- where documents lie --------------------------------------------------------------------------


def test_a_plain_file_is_read_where_it_lies(root: Path, work: Path) -> None:
    """I21: its parts are all of it, each once; nothing is copied."""
    dump = source(root, work)
    plan = planned(dump, "shop.a")
    assert held(dump, plan) == PLAIN
    assert {each.file.place for each in plan.files} == {"dump"}
    assert [each.file.documents for each in plan.files] == [30, 30, 30, 10]
    ends = [each.file.at + each.file.file_bytes for each in plan.files]
    assert [each.file.at for each in plan.files] == [0, *ends[:-1]]
    assert ends[-1] == len(DIRECTORY["shop/a.bson"])
    assert list(work.iterdir()) == []


def test_a_part_has_so_many_bytes(root: Path, work: Path) -> None:
    dump = source(root, work, chunk_bytes=200)
    plan = planned(dump, "shop.a")
    assert held(dump, plan) == PLAIN
    assert len(plan.files) > 10


def test_gzip_is_unpacked_beside_the_job(root: Path, work: Path) -> None:
    """Nobody can seek in it; planned again it is the same."""
    dump = source(root, work)
    plan = planned(dump, "shop.packed")
    assert held(dump, plan) == PLAIN
    assert {each.file.place for each in plan.files} == {"work"}
    assert [each.file.documents for each in plan.files] == [30, 30, 30, 10]
    assert planned(source(root, work), "shop.packed") == plan


@pytest.mark.parametrize("name", ["shop.none", "shop.view"])
def test_nothing_has_no_files(root: Path, work: Path, name: str) -> None:
    assert planned(source(root, work), name) == PlannedFiles(())


def test_a_capped_collection_stays_whole(root: Path, work: Path) -> None:
    """Its order is part of it."""
    dump = source(root, work)
    plan = planned(dump, "shop.capped")
    assert [each.file.documents for each in plan.files] == [100]
    assert held(dump, plan) == PLAIN


def test_the_dump_stays_as_it_was(root: Path, work: Path) -> None:
    """Whatever is read of it, and however often."""
    before = tree(root)
    dump = source(root, work, objcheck=True)
    for each in dump.survey(Looks()).units:
        held(dump, planned(dump, each.unit))
    assert tree(root) == before


@pytest.mark.parametrize("name", ["shop.a", "shop.packed", "shop.none", "shop.view"])
def test_documents_can_be_read_again(root: Path, work: Path, name: str) -> None:
    """To tell what lies beside them on the target."""
    dump = source(root, work)
    again = dump.again(plain_unit(name), Looks())
    assert again is not None
    wanted = PLAIN if name in ("shop.a", "shop.packed") else []
    assert list(again()) == list(again()) == wanted
    assert not dump.knows_ranges(Looks())


def test_a_plan_can_be_stopped(root: Path, work: Path) -> None:
    for name in ("shop.a", "shop.packed"):
        with pytest.raises(Stopped):
            source(root, work).plan(plain_unit(name), Looks(0))


# --- damage ---------------------------------------------------------------------------------------

OFFSET = len(b"".join(PLAIN[:50]))


def broken(root: Path, name: str) -> None:
    """The length of the 51st document is none."""
    path = root / "shop" / name
    packed = name.endswith(".gz")
    raw = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    raw[OFFSET : OFFSET + 4] = b"\xff" * 4
    path.write_bytes(gzip.compress(raw) if packed else raw)


@pytest.mark.parametrize("name", ["a.bson", "packed.bson.gz"])
def test_a_damaged_file_is_refused_with_its_place(root: Path, work: Path, name: str) -> None:
    """I24; bad input 16."""
    broken(root, name)
    with pytest.raises(DamagedDump) as caught:
        planned(source(root, work), f"shop.{name.partition('.')[0]}")
    assert (caught.value.file, caught.value.at) == (f"shop/{name}", OFFSET)
    assert caught.value.detail.startswith("EBSON")


@pytest.mark.parametrize("name", ["a.bson", "packed.bson.gz"])
def test_salvage_takes_the_rest_and_names_the_gap(root: Path, work: Path, name: str) -> None:
    broken(root, name)
    dump = source(root, work, salvage=True)
    plan = planned(dump, f"shop.{name.partition('.')[0]}")
    assert held(dump, plan) == PLAIN[:50] + PLAIN[51:]
    (damage,) = plan.damage
    assert (damage.file, damage.at, damage.bytes) == (f"shop/{name}", OFFSET, len(PLAIN[50]))
    assert damage.code.startswith("EBSON")
    assert dump.again(plain_unit("shop.a"), Looks()) is None


@pytest.mark.parametrize("name", ["a", "packed"])
def test_objcheck_looks_into_documents(root: Path, work: Path, name: str) -> None:
    """Bad input 24: without it the server is the judge."""
    odd = bson.encode({"_id": 1, "b": True}).replace(b"\x08b\0\1", b"\x08b\0\7")
    (root / "shop" / "a.bson").write_bytes(PLAIN[0] + odd)
    (root / "shop" / "packed.bson.gz").write_bytes(gzip.compress(PLAIN[0] + odd))
    dump = source(root, work)
    assert held(dump, planned(dump, f"shop.{name}")) == [PLAIN[0], odd]
    with pytest.raises(DamagedDump) as caught:
        planned(source(root, work, objcheck=True), f"shop.{name}")
    assert caught.value.detail == str(Code.BOOLEAN)


# --- ferrylog's own layout ------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path: Path) -> Path:
    root = tmp_path / "own"
    root.mkdir()
    edge = Key('{"$numberInt":"3"}')
    parts = (
        chunk(root, "shop.a", 0, block_of(1, 2), upper=edge),
        chunk(root, "shop.a", 1, block_of(3, 4), block_of(5), lower=edge),
    )
    capped = chunk(root, "shop.log", 0, block_of(2, 1), natural=True)
    nothing = b"\5\0\0\0\0"
    write_manifest(
        root,
        Facts(tool_version="1", cluster_time="7.1"),
        [
            Dumped("shop.a", "collection", nothing, (), parts=parts),
            Dumped("shop.log", "collection", nothing, (), parts=(capped,)),
            Dumped("shop.v", "view", bson.encode({"viewOn": "a", "pipeline": []}), ()),
        ],
    )
    return root


def test_our_own_dump_knows_its_ranges(own: Path, work: Path) -> None:
    """I21: chunks are those that were dumped, whatever size is asked for now."""
    dump = source(own, work, chunk_docs=1)
    assert dump.survey(Looks()).cluster_time == "7.1"
    assert dump.knows_ranges(Looks())
    first, second = planned(dump, "shop.a").files
    assert (first.lower, first.upper) == (None, second.lower)
    assert (second.lower, second.upper) == (Key('{"$numberInt":"3"}'), None)
    assert (first.file.place, first.file.documents, second.file.documents) == ("dump", 2, 3)
    (capped,) = planned(dump, "shop.log").files
    assert capped.natural
    assert planned(dump, "shop.v") == PlannedFiles(())
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("salvage", [False, True])
def test_our_own_dump_is_checked_to_the_byte(own: Path, work: Path, *, salvage: bool) -> None:
    """I24: a chunk file that is not the one that was dumped is refused, or left out and named."""
    path = own / "shop.a" / "1-1.flb"
    raw = bytearray(path.read_bytes())
    raw[-3] ^= 1
    path.write_bytes(raw)
    dump = source(own, work, salvage=salvage)
    if not salvage:
        with pytest.raises(DamagedDump) as caught:
            planned(dump, "shop.a")
        assert caught.value.file == "shop.a/1-1.flb"
        return
    plan = planned(dump, "shop.a")
    whole = list(documents(block_of(1, 2, 3, 4, 5).data))
    kept = held(dump, plan)
    assert kept == whole[: len(kept)]
    assert 2 <= len(kept) < 5
    assert plan.damage[0].file == "shop.a/1-1.flb"


# --- archives -------------------------------------------------------------------------------------


class Opened:
    """An archive, and how often it was asked for."""

    def __init__(self, raw: bytes) -> None:
        self.raw, self.times = raw, 0

    def __call__(self) -> BinaryIO:
        self.times += 1
        return io.BytesIO(self.raw)


def archived(work: Path, archive: Opened, **changes: Any) -> DumpSource:
    return source(Path("x.archive"), work, archive, **{"layout": "archive", **changes})


A = [numbered(n) for n in range(5)]


def test_an_archive_is_unpacked_once(work: Path) -> None:
    """Whoever asks first; another process finds what the first one unpacked."""
    archive = Opened(interleaved())
    dump = archived(work, archive, chunk_docs=2)
    with ThreadPoolExecutor(8) as pool:
        plans = list(pool.map(lambda _: planned(dump, "shop.a"), range(8)))
    assert archive.times == 1
    assert all(each == plans[0] for each in plans)
    assert held(dump, plans[0]) == A
    assert [each.file.documents for each in plans[0].files] == [2, 2, 1]
    assert all(each.file.name.startswith(f"{UNPACKED}/shop.a/") for each in plans[0].files)
    assert {each.file.place for each in plans[0].files} == {"work"}
    assert found(dump.survey(Looks())) == {"shop.a", "shop.b", "shop.none"}
    assert not dump.knows_ranges(Looks())
    assert dump.again(plain_unit("shop.a"), Looks()) is None

    second = archived(work, archive, chunk_docs=2)
    assert planned(second, "shop.a") == plans[0]
    assert archive.times == 1


def test_what_is_gone_is_unpacked_by_one_and_awaited_by_the_others(work: Path) -> None:
    """I24: nobody reads a file that another worker is making; a second look makes nothing."""
    archive = Opened(interleaved())
    dump = archived(work, archive, chunk_docs=2)
    plan = planned(dump, "shop.a")
    paths = [work / each.file.name for each in plan.files]
    before = [path.read_bytes() for path in paths]
    for path in paths:
        path.unlink()
    unit = plain_unit("shop.a")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: dump.path(unit, plan.files[n % 3].file, Looks()), range(24)))
    assert archive.times == 2
    assert [path.read_bytes() for path in paths] == before


def test_what_a_dump_lacks_is_told_by_its_restore(own: Path, work: Path) -> None:
    """P10: what was left out when it was made is missing now, and no exit 0."""
    lacks = Damage("shop.gone", 0, 0, "EDUMP036", "it was given up when the rest was dumped")
    dump = read_manifest(own)
    write_manifest(own, read_facts(own).model_copy(update={"damage": (lacks,)}), dump.namespaces)
    [told] = source(own, work).survey(Looks()).damage
    assert (told.file, told.code, told.why) == (lacks.file, lacks.code, lacks.why)


def test_after_a_kill_it_is_unpacked_again(work: Path) -> None:
    """I12: at each look at its token; what a killed one left is no dump."""
    archive = Opened(interleaved())
    (work / "whole").mkdir()
    whole = planned(archived(work / "whole", archive, chunk_docs=2), "shop.a")
    for looks in range(50):
        folder = work / str(looks)
        folder.mkdir()
        stop = Looks(looks)
        try:
            archived(folder, archive, chunk_docs=2).survey(stop)
        except Stopped:
            assert not (folder / UNPACKED / MANIFEST).exists()
        else:
            break
        (folder / UNPACKED / "shop.a").mkdir(exist_ok=True)
        (folder / UNPACKED / "shop.a" / "0-1.flb").write_bytes(b"half")
        (folder / UNPACKED / "shop.a" / "1-1.flb.tmp").write_bytes(b"half")
        dump = archived(folder, archive, chunk_docs=2)
        plan = planned(dump, "shop.a")
        assert plan == whole
        assert held(dump, plan) == A
    assert looks >= 3


def test_chunk_files_that_were_restored_may_be_gone(work: Path) -> None:
    """A job that goes on does not read the archive again for what it needs no more."""
    archive = Opened(interleaved())
    dump = archived(work, archive)
    surveyed, plan = dump.survey(Looks()), planned(dump, "shop.b")
    for each in planned(dump, "shop.a").files:
        (work / each.file.name).unlink()
    again = archived(work, archive)
    assert again.survey(Looks()) == surveyed
    assert planned(again, "shop.b") == plan
    assert archive.times == 1


def test_only_what_is_wanted_is_unpacked(work: Path) -> None:
    dump = archived(work, Opened(interleaved()), exclude=("*.a",))
    assert found(dump.survey(Looks())) == {"shop.b", "shop.none"}
    assert [path.name for path in (work / UNPACKED).iterdir() if path.is_dir()] == ["shop.b"]


def test_what_of_an_archive_belongs_to_the_server_stays_there(work: Path) -> None:
    names = ("local.startup_log", "config.chunks", "admin.system.users", "admin.system.version")
    raw = prelude(*(entry(name) for name in (*names, "shop.a")))
    for name in (*names, "shop.a"):
        raw += block(name, A[0]) + end(name, A[0])
    assert found(archived(work, Opened(raw)).survey(Looks())) == {"shop.a"}
    again = work / "users"
    again.mkdir()
    assert found(archived(again, Opened(raw), users=True).survey(Looks())) == {
        "shop.a",
        "admin.system.users",
    }


def test_a_damaged_archive_is_refused_or_salvaged(work: Path) -> None:
    """I24: nothing is planned; a salvage tells what is lost with the survey."""
    raw = interleaved()[:-40]
    for _ in range(2):
        archive = Opened(raw)
        with pytest.raises(DamagedDump) as caught:
            archived(work, archive).survey(Looks())
        assert caught.value.file == "x.archive"
        assert not (work / UNPACKED / MANIFEST).exists()
        assert archive.times == 1
    archive = Opened(raw)
    dump = archived(work, archive, salvage=True)
    surveyed = dump.survey(Looks())
    assert surveyed.damage
    assert {each.file for each in surveyed.damage} == {"x.archive"}
    assert held(dump, planned(dump, "shop.a")) == A
    assert archived(work, archive, salvage=True).survey(Looks()) == surveyed
    assert archive.times == 1


# --- opening --------------------------------------------------------------------------------------


def test_opening_an_archive(tmp_path: Path) -> None:
    file, stdin = tmp_path / "x", io.BytesIO(b"in")
    file.write_bytes(b"whole")
    with open_archive(asked(file, layout="archive"), stdin, NeverStops()) as opened:
        assert opened.read() == b"whole"
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "nobody", tmp_path / "fifo"):
        with pytest.raises(NoDump):
            open_archive(asked(path, layout="archive"), stdin, NeverStops())
    (tmp_path / "link").symlink_to(file)
    with open_archive(asked(tmp_path / "link", layout="archive"), stdin, NeverStops()) as opened:
        assert opened.read() == b"whole"


def test_standard_input_takes_its_time() -> None:
    """Whoever writes it: the token is looked at, what comes is read, once."""
    reads, writes = os.pipe()
    with os.fdopen(reads, "rb", buffering=0) as stdin:
        opened = open_archive(asked("-", layout="archive"), stdin, NeverStops())
        os.write(writes, b"in")
        os.close(writes)
        assert opened.read() == b"in"
    with pytest.raises(NoDump, match="was read already"):
        open_archive(asked("-", layout="archive"), stdin, NeverStops())
    reads, writes = os.pipe()
    with os.fdopen(reads, "rb", buffering=0) as stdin, pytest.raises(Stopped):
        open_archive(asked("-", layout="archive"), stdin, Looks(0)).read(1)
    os.close(writes)


def test_the_identity_tells_dumps_apart(root: Path, tmp_path: Path) -> None:
    """A job goes on with the dump that it began with, wherever that lies now."""
    first = identity_of(asked(root))
    assert first == identity_of(asked(root))
    moved = root.rename(tmp_path / "moved")
    assert identity_of(asked(moved)) == first
    with (moved / "shop" / "a.bson").open("ab") as file:
        file.write(PLAIN[0])
    assert identity_of(asked(moved)) != first

    archive = tmp_path / "x"
    archive.write_bytes(interleaved())
    second = identity_of(asked(archive, layout="archive"))
    assert second == identity_of(asked(archive, layout="archive"))
    archive.write_bytes(interleaved() + b"x")
    assert identity_of(asked(archive, layout="archive")) != second
    assert identity_of(asked("-", layout="archive")) == "-"


def test_a_single_file_is_what_it_is_said_to_be(root: Path, work: Path) -> None:
    dump = source(root / "shop" / "a.bson", work, into="x.y")
    (unit,) = dump.survey(Looks()).units
    assert unit.unit == "x.y"
    assert held(dump, planned(dump, "x.y")) == PLAIN


def test_whether_a_dump_names_its_databases(root: Path, own: Path, tmp_path: Path) -> None:
    assert what_lies_there(root) == "databases"
    assert what_lies_there(own) == "databases"
    assert what_lies_there(root / "shop") == "files"
    assert what_lies_there(root / "shop" / "a.bson") == "files"
    assert what_lies_there(tmp_path / "nobody") == "databases"
