"""One effect in, one outcome out: who does it, at which end, and what a failure is called (P5)."""

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import bson
import pytest

from executors.clients import connect
from executors.dispatch import MongoExecutor
from executors.dumps.making import out_of
from executors.dumps.manifest import MANIFEST, Facts
from executors.dumps.named import open_archive
from executors.dumps.restoring import DumpSource
from executors.ends import Ends
from executors.export.errors import Miscounted, PlaceTaken
from statemachine.effects import Effect
from statemachine.events import JobSpec
from statemachine.state import Chunk, ChunkFile, Unit
from statemachine.stimuli import (
    Created,
    Failed,
    FileDamaged,
    Finished,
    FoundUnit,
    Manifested,
    Outcome,
    Planned,
    PlannedFiles,
    Released,
    Restored,
    Succeeded,
    Surveyed,
    Verified,
)
from statemachine.words import THE_JOB, Cause, ChunkId, TaskKey, TaskKind
from tests.conftest import Pair
from tests.executors.dumps.archives import interleaved
from tests.executors.examples import (
    Client,
    Looks,
    chunk_of,
    filed,
    plain_unit,
    spec,
    there,
    unit_of,
)

pytestmark = pytest.mark.server

DOCUMENTS = [bson.encode({"_id": n, "v": n % 3}) for n in range(10)]


class Hands:
    """The executor of a job, a folder for it, and outcomes of what it is told to do."""

    def __init__(self, pair: Pair, folder: Path) -> None:
        self.source = connect("source", pair.source.uri)
        self.target = connect("target", pair.target.uri)
        self.work = folder / "work"
        self.work.mkdir()
        self.stop = Looks()
        self.executor = MongoExecutor(Ends(self.source, self.target), spec(), self.work)

    def migrates(self, **changes: Any) -> None:
        self.executor = MongoExecutor(Ends(self.source, self.target), spec(**changes), self.work)

    def restores(self, dump: Path, **changes: Any) -> None:
        """The job reads this dump."""
        asked = given(**{"kind": "restore", "source": f"file:{dump}", **changes})
        source = DumpSource(asked, self.work, lambda stop: open_archive(asked, io.BytesIO(), stop))
        target = None if asked.kind == "verify" else self.target
        ends = Ends(self.source if target is None else None, target, source)
        self.executor = MongoExecutor(ends, asked, self.work)

    def dumps(self, out: Path, **changes: Any) -> None:
        asked = given(kind="dump", target=f"file:{out}", **changes)
        into = out_of(asked, self.work, lambda: Facts(tool_version="1"), io.BytesIO())
        into.folder.mkdir(exist_ok=True)
        self.executor = MongoExecutor(Ends(self.source, out=into), asked, self.work)

    def run(self, kind: TaskKind, entity: str = THE_JOB, **fields: Any) -> Outcome:
        unit = fields.pop("unit", None)
        effect = Effect(TaskKey(kind, entity), 2, 3, unit=unit, **fields)
        outcome = self.executor.run(effect, self.stop, lambda _: None)
        assert (outcome.task, outcome.attempt, outcome.epoch) == (effect.task, 2, 3)
        return outcome

    def done(self, kind: TaskKind, entity: str = THE_JOB, **fields: Any) -> Any:
        outcome = self.run(kind, entity, **fields)
        assert isinstance(outcome, Succeeded), outcome
        return outcome.result

    def failed(self, kind: TaskKind, entity: str = THE_JOB, **fields: Any) -> tuple[Cause, str]:
        outcome = self.run(kind, entity, **fields)
        assert isinstance(outcome, Failed), outcome
        return outcome.cause, outcome.code


def given(**changes: Any) -> JobSpec:
    return spec(**{"include": (), "exclude": (), "metadata": True, **changes})


@pytest.fixture
def hands(pair: Pair, tmp_path: Path) -> Iterator[Hands]:
    made = Hands(pair, tmp_path)
    yield made
    made.source.close()
    made.target.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A dump as mongodump leaves it."""
    root = tmp_path / "dump"
    (root / "shop").mkdir(parents=True)
    (root / "shop" / "c.bson").write_bytes(b"".join(DOCUMENTS))
    told = {"options": {}, "indexes": [{"v": 2, "key": {"v": 1}, "name": "v_1"}]}
    (root / "shop" / "c.metadata.json").write_text(json.dumps(told))
    return root


def as_unit(found: FoundUnit, **fields: Any) -> Unit:
    same = {
        name: getattr(found, name)
        for name in ("target", "type", "uuid", "options", "indexes", "expires")
    }
    return replace(plain_unit(found.unit), **same, **fields)


def chunks(unit: Unit, plan: PlannedFiles) -> list[Chunk]:
    return [filed(each.file, unit, number=n) for n, each in enumerate(plan.files)]


def databases(client: Client) -> set[str]:
    return set(client.list_database_names()) - {"admin", "local", "config"}


def test_a_time_series_that_comes_later_is_not_transformed(pair: Pair, hands: Hands) -> None:
    """F18: what is added to a job, or made just before it begins, is looked at like the rest."""
    pair.source_client.shop.create_collection("t", timeseries={"timeField": "t"})
    ends, asked = Ends(hands.source, hands.target), spec(transform="m:f")
    hands.executor = MongoExecutor(ends, asked, hands.work, through=lambda blocks, *_: blocks)
    assert hands.failed(TaskKind.SURVEY) == (Cause.PERMANENT, "ETRANSFORM006")


# --- a dump to a server ---------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["mongodump", "archive"])
def test_a_dump_becomes_a_collection(
    pair: Pair, hands: Hands, root: Path, tmp_path: Path, layout: str
) -> None:
    """I22: from the survey to the last touch; nothing is written before the plan is made."""
    dump = root
    if layout == "archive":
        dump = tmp_path / "x"
        dump.write_bytes(interleaved())
    hands.restores(dump, layout=layout, chunk_docs=2)
    surveyed = hands.done(TaskKind.SURVEY)
    assert isinstance(surveyed, Surveyed)
    units = [as_unit(found) for found in surveyed.units]
    plans = [hands.done(TaskKind.PLAN, unit.id, unit=unit) for unit in units]
    assert databases(pair.target_client) == set()
    for unit, planned in zip(units, plans, strict=True):
        assert isinstance(planned, PlannedFiles)
        assert isinstance(hands.done(TaskKind.CREATE, unit.id, unit=unit), Created)
        for chunk in chunks(unit, planned):
            effect = {"unit": unit, "chunk": chunk}
            restored = hands.done(TaskKind.RESTORE, chunk.id, **effect)
            assert isinstance(restored, Restored)
            assert restored.documents == chunk.documents
            verified = hands.done(TaskKind.VERIFY, chunk.id, **effect)
            assert isinstance(verified, Verified)
            assert verified.equal
            unit.source_documents += verified.source_documents
            unit.target_documents += verified.target_documents
        for index in unit.indexes:
            hands.done(TaskKind.INDEX, f"{unit.id}@{index.name}", unit=unit)
        assert hands.done(TaskKind.FINISH, unit.id, unit=unit) == Finished()
    if layout == "mongodump":
        assert there(pair.target_client) == DOCUMENTS
        assert "v_1" in pair.target_client.shop.c.index_information()
    else:
        assert len(there(pair.target_client, "shop.a")) == 5


class TestTheLastTouch:
    """It tells what lies on the target beside a dump that knows no ranges."""

    def planted(self, hands: Hands, pair: Pair, root: Path, **changes: Any) -> list[str]:
        hands.restores(root, **changes)
        (found,) = hands.done(TaskKind.SURVEY).units
        unit = as_unit(found, source_documents=len(DOCUMENTS))
        hands.done(TaskKind.CREATE, unit.id, unit=replace(unit, indexes=()))
        pair.target_client.shop.c.create_index("v")
        pair.target_client.shop.c.insert_many([bson.decode(each) for each in DOCUMENTS])
        pair.target_client.shop.c.insert_one({"_id": "planted"})
        finished = hands.done(TaskKind.FINISH, unit.id, unit=unit)
        return [each.what for each in finished.differing]

    def test_it_is_told(self, hands: Hands, pair: Pair, root: Path) -> None:
        assert self.planted(hands, pair, root) == ["documents", 'extra: _id "planted"']

    @pytest.mark.parametrize("changes", [{"metadata": False}, {"on_conflict": "skip"}])
    def test_unless_nobody_asked(
        self, hands: Hands, pair: Pair, root: Path, changes: dict[str, Any]
    ) -> None:
        """A merge leaves what was there."""
        assert self.planted(hands, pair, root, **changes) == []


# --- a server to a dump ---------------------------------------------------------------------------


def test_a_collection_becomes_a_dump_that_is_compared_with_it(
    pair: Pair, hands: Hands, tmp_path: Path
) -> None:
    """I22: chunk files lie where the dump is; a verification reads them and the source."""
    pair.source_client.shop.c.insert_many([bson.decode(each) for each in DOCUMENTS])
    out = tmp_path / "out"
    hands.dumps(out)
    unit = unit_of(pair.source_client)
    chunk = chunk_of(unit)
    dumped = hands.done(TaskKind.DUMP, chunk.id, unit=unit, chunk=chunk)
    told = (dumped.file, dumped.documents, dumped.bytes, dumped.file_bytes, dumped.sha256)
    done = replace(chunk, file=ChunkFile(*told))
    made = hands.done(TaskKind.MANIFEST, units=(unit,), filed=(done,))
    assert isinstance(made, Manifested)
    assert made.documents == len(DOCUMENTS)
    assert {path.name for path in out.iterdir()} == {MANIFEST, "shop.c"}
    assert list(hands.work.iterdir()) == []

    hands.restores(out, kind="verify")
    (found,) = hands.done(TaskKind.PLAN, unit.id, unit=unit).files
    read = replace(chunk, file=found.file)
    assert hands.done(TaskKind.VERIFY, chunk.id, unit=unit, chunk=read).equal
    pair.source_client.shop.c.delete_one({"_id": 3})
    verified = hands.done(TaskKind.VERIFY, chunk.id, unit=unit, chunk=read)
    assert (verified.equal, [each.what for each in verified.differing]) == (False, ["extra"])
    assert databases(pair.target_client) == set()


def test_a_dry_run_writes_nothing(pair: Pair, hands: Hands, root: Path) -> None:
    """I46: it plans, and tells what will go wrong."""
    hands.restores(root, kind="plan")
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    pair.target_client.shop.c.insert_one({"_id": 1})
    (found,) = hands.done(TaskKind.SURVEY).units
    planned = hands.done(TaskKind.PLAN, found.unit, unit=as_unit(found))
    assert isinstance(planned, PlannedFiles)
    assert sum(each.file.documents for each in planned.files) == len(DOCUMENTS)
    assert planned.conflicts
    assert there(pair.target_client) == [bson.encode({"_id": 1})]
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    assert list(hands.work.iterdir()) == []

    pair.source_client.shop.c.insert_one({"_id": 1})
    hands.migrates(kind="plan")
    planned = hands.done(TaskKind.PLAN, "shop.c", unit=unit_of(pair.source_client))
    assert isinstance(planned, Planned)
    assert planned.conflicts


# --- failures -------------------------------------------------------------------------------------


def test_what_is_wrong_with_a_dump_keeps_its_own_code(hands: Hands, root: Path) -> None:
    """P5: nobody heals it, so nobody tries again; the first word is what kind of damage it is."""
    unit = plain_unit()
    (root / "shop" / "c.bson").write_bytes(DOCUMENTS[0] + b"\xff" * 9)
    hands.restores(root)
    assert hands.failed(TaskKind.PLAN, unit.id, unit=unit) == (Cause.PERMANENT, "EBSON011")
    (root / "shop" / "c.metadata.json").write_text("{")
    hands.restores(root)
    assert hands.failed(TaskKind.SURVEY) == (Cause.PERMANENT, "EDUMP030")
    hands.restores(root / "nobody")
    assert hands.failed(TaskKind.SURVEY) == (Cause.PERMANENT, "EDUMP001")


def test_a_file_that_changed_behind_its_plan_is_damage(
    pair: Pair, hands: Hands, root: Path
) -> None:
    """I24: nothing of it is written."""
    unit = plain_unit()
    hands.restores(root)
    (chunk,) = chunks(unit, hands.done(TaskKind.PLAN, unit.id, unit=unit))
    path = root / "shop" / "c.bson"
    path.write_bytes(path.read_bytes().replace(b"v", b"w"))
    outcome = hands.run(TaskKind.RESTORE, chunk.id, unit=unit, chunk=chunk)
    assert isinstance(outcome, FileDamaged)
    assert "c.bson" in outcome.why
    assert databases(pair.target_client) == set()


@pytest.mark.parametrize("name", ["../secret.bson", "/etc/passwd", "a/../../secret.bson"])
@pytest.mark.parametrize("place", ["work", "dump"])
def test_a_journal_leads_nowhere_else(
    pair: Pair, hands: Hands, root: Path, name: str, place: Any
) -> None:
    """P10: its names are those of another host, perhaps of another's making."""
    secret = root.parent / "secret.bson"
    secret.write_bytes(DOCUMENTS[0])
    digest = hashlib.sha256(DOCUMENTS[0]).hexdigest()
    size = len(DOCUMENTS[0])
    unit = plain_unit()
    chunk = filed(ChunkFile(name, 1, size, size, digest, 0, place), unit)
    hands.restores(root)
    for kind in (TaskKind.RESTORE, TaskKind.VERIFY):
        assert hands.failed(kind, chunk.id, unit=unit, chunk=chunk)[0] is Cause.PERMANENT
    hands.migrates()
    assert hands.failed(TaskKind.RELEASE, chunk.id, unit=unit, file=name)[0] is Cause.PERMANENT
    assert secret.exists()
    assert databases(pair.target_client) == set()


def test_a_stop_is_no_failure_of_anybody(hands: Hands, root: Path) -> None:
    hands.stop = Looks(0)
    hands.restores(root)
    unit = plain_unit()
    assert hands.failed(TaskKind.PLAN, unit.id, unit=unit) == (Cause.TRANSIENT, "ESTOP001")


def test_a_disk_that_refuses(pair: Pair, hands: Hands, tmp_path: Path) -> None:
    pair.source_client.shop.c.insert_one({"_id": 1})
    unit = unit_of(pair.source_client)
    chunk = chunk_of(unit)
    hands.work = tmp_path / "file"
    hands.work.touch()
    hands.migrates()
    cause, code = hands.failed(TaskKind.DUMP, chunk.id, unit=unit, chunk=chunk)
    assert (cause, code) == (Cause.TRANSIENT, "EDISK000")


@pytest.mark.parametrize(
    ("error", "called"),
    [
        (Miscounted("1 values of a became 0"), (Cause.PERMANENT, "EBUG003")),
        (PlaceTaken("s3://lake/x", "job 1 exports to there"), (Cause.FATAL, "EEXPORT011")),
    ],
)
def test_what_becomes_of_an_export(
    error: Exception,
    called: tuple[Cause, str],
    hands: Hands,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """G3: a value that was miscounted is a fault of ours that the rest need not wait for; in a
    place of another job nothing goes on."""

    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(MongoExecutor, "_do", fails)
    hands.restores(root)
    unit = plain_unit()
    assert hands.failed(TaskKind.PLAN, unit.id, unit=unit) == called


# --- releases -------------------------------------------------------------------------------------


def test_a_release_takes_the_file_of_the_work_folder(hands: Hands, root: Path) -> None:
    """I44: once and again; never the dump that was read, whatever it is called."""
    unit = plain_unit()
    (hands.work / "shop").mkdir()
    (hands.work / "shop" / "c.bson").touch()
    hands.restores(root)
    for _ in range(2):
        done = hands.done(TaskKind.RELEASE, ChunkId("shop.c#0"), unit=unit, file="shop/c.bson")
        assert done == Released()
    assert list((hands.work / "shop").iterdir()) == []
    assert (root / "shop" / "c.bson").read_bytes() == b"".join(DOCUMENTS)
