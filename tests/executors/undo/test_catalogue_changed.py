"""What others changed since is never destroyed, and always told (I40, I41)."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from bson import Int64

from executors.commands import there
from executors.errors import OtherCollection
from executors.leftovers import named_in_logs
from executors.metadata import create
from executors.select import KEPT, STAGING
from executors.undo import aside
from executors.undo.aside import CatalogueLog, TooLargeToKeep, staged
from executors.undo.catalogue import NAMING, free, kept_by
from executors.undo.log import undo_path
from statemachine.words import TaskKey, TaskKind
from tests.conftest import Pair
from tests.executors.examples import Client
from tests.executors.kinds import created, indexed, measured
from tests.executors.undo.job import NAME, OURS, Job, job_of, kept, told
from tests.executors.undo.world import Died, dying, nothing_expires, world

pytestmark = pytest.mark.server


@pytest.fixture(autouse=True)
def _nothing_expires_in_time(servers: Pair) -> Iterator[None]:
    with nothing_expires(servers.source_client, servers.target_client):
        yield


def names(client: Client) -> list[str]:
    return sorted(client.shop.list_collection_names())


def done(pair: Pair, tmp_path: Path, **settings: object) -> Job:
    """A job that came to its end, over nothing unless a test laid something there."""
    if "c1" not in pair.source_client.shop.list_collection_names():
        OURS["collection"](pair.source_client.shop, "c1")
    job = job_of(pair, tmp_path, **settings)
    job.run()
    return job


# --- collections ---


def test_others_wrote_to_what_we_made(pair: Pair, tmp_path: Path) -> None:
    """It stays with their documents, and without our indexes."""
    job = done(pair, tmp_path)
    pair.target_client.shop.c1.insert_one({"_id": "foreign", "a": 77})
    undone = job.undo()
    assert kept(undone) == 1
    assert "kept: shop.c1, which this job made: others wrote to it" in told(undone)
    assert list(pair.target_client.shop.c1.find()) == [{"_id": "foreign", "a": 77}]
    assert list(pair.target_client.shop.c1.index_information()) == ["_id_"]


def test_by_force(pair: Pair, tmp_path: Path) -> None:
    job = done(pair, tmp_path)
    pair.target_client.shop.c1.insert_one({"_id": "foreign"})
    assert kept(job.undo(force=True)) == 0
    assert names(pair.target_client) == []


def test_another_one_has_the_name_by_now(pair: Pair, tmp_path: Path) -> None:
    job = done(pair, tmp_path)
    pair.target_client.shop.c1.drop()
    pair.target_client.shop.c1.insert_one({"_id": "foreign"})
    pair.target_client.shop.c1.create_index("b", name="i1", sparse=True)
    before = world(pair.target_client)
    undone = job.undo(force=True)
    assert "kept: shop.c1: this collection is not the one that this job made" in told(undone)
    assert world(pair.target_client) == before


def test_others_renamed_what_we_made(pair: Pair, tmp_path: Path) -> None:
    job = done(pair, tmp_path)
    pair.target_client.shop.c1.rename("theirs")
    before = world(pair.target_client)
    undone = told(job.undo())
    assert "kept: shop.theirs, which this job made as shop.c1: others renamed it" in undone
    assert "kept: what was changed of shop.c1: others call it shop.theirs by now" in undone
    assert world(pair.target_client) == before


@pytest.mark.parametrize("settings", [{"drop": True}, {"swap": "k5"}], ids=str)
def test_what_was_kept_cannot_have_its_name(
    pair: Pair, tmp_path: Path, settings: dict[str, object]
) -> None:
    """Both stay, and both are named."""
    pair.target_client.shop.c1.insert_one({"_id": "theirs"})
    job = done(pair, tmp_path, **settings)
    (pairs,) = kept_by(job.folder)
    assert pairs[0] == NAME
    pair.target_client.shop.c1.drop()
    pair.target_client.shop.c1.insert_one({"_id": "foreign"})
    undone = job.undo()
    line = f"kept: {pairs[1]}, which was {NAME} before: something else has that name now"
    assert line in told(undone)
    assert list(pair.target_client.shop.c1.find()) == [{"_id": "foreign"}]
    assert list(pair.target_client["shop"][pairs[1].partition(".")[2]].find()) == [
        {"_id": "theirs"}
    ]


def test_what_was_kept_is_gone(pair: Pair, tmp_path: Path) -> None:
    pair.target_client.shop.c1.insert_one({"_id": "theirs"})
    job = done(pair, tmp_path, drop=True)
    ((_, other),) = kept_by(job.folder)
    pair.target_client.shop.drop_collection(other.partition(".")[2])
    gone = f"gone: what was {NAME} and became {other}"
    undone = job.undo()
    assert gone in told(undone)
    assert kept(undone) == 1


def test_a_view_was_changed(pair: Pair, tmp_path: Path) -> None:
    OURS["view"](pair.source_client.shop, "c1")
    job = done(pair, tmp_path)
    pair.target_client.shop.command({"collMod": "c1", "viewOn": "x", "pipeline": []})
    before = world(pair.target_client)
    assert kept(job.undo()) == 1
    assert world(pair.target_client) == before


def test_something_where_a_view_was(pair: Pair, tmp_path: Path) -> None:
    pair.target_client.shop.command({"create": "c1", "viewOn": "x", "pipeline": []})
    job = done(pair, tmp_path, drop=True)
    pair.target_client.shop.c1.drop()
    pair.target_client.shop.c1.insert_one({"_id": "foreign"})
    assert "kept: the collection shop.c1, where a view was before" in told(job.undo())
    assert list(pair.target_client.shop.c1.find()) == [{"_id": "foreign"}]


def test_something_where_a_time_series_was(pair: Pair, tmp_path: Path) -> None:
    """Its copy stays, and is named."""
    measured(metaField="m")(pair.target_client.shop, "c1")
    job = done(pair, tmp_path, drop=True)
    pair.target_client.shop.c1.insert_one({"_id": "foreign"})
    undone = told(job.undo())
    (line,) = [each for each in undone if ".saved with the buckets of shop.c1" in each]
    assert Path(line.split()[1]).stat().st_size > 0


def test_another_time_series_where_one_was(pair: Pair, tmp_path: Path) -> None:
    """Nothing is poured into it."""
    measured(metaField="m")(pair.target_client.shop, "c1")
    job = done(pair, tmp_path, drop=True)
    pair.target_client.shop.c1.drop()
    measured(metaField="other")(pair.target_client.shop, "c1")
    before = world(pair.target_client)
    assert kept(job.undo()) == 2
    assert world(pair.target_client) == before


def test_a_time_series_too_large_to_copy(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M15: refused before anything is changed."""
    measured(metaField="m")(pair.target_client.shop, "c1")
    monkeypatch.setattr(aside, "SAVED_BYTES", 1)
    before = world(pair.target_client)
    with pytest.raises(TooLargeToKeep, match="time series") as raised:
        done(pair, tmp_path, drop=True)
    assert "--no-undo" in raised.value.remedy
    assert world(pair.target_client) == before


# --- indexes, expiry ---


def existing(pair: Pair, tmp_path: Path) -> Job:
    """Merged into what was there."""
    pair.target_client.shop.c1.insert_one({"_id": "theirs", "a": "x"})
    return done(pair, tmp_path)


def test_an_index_was_changed(pair: Pair, tmp_path: Path) -> None:
    job = existing(pair, tmp_path)
    pair.target_client.shop.c1.drop_index("i1")
    pair.target_client.shop.c1.create_index("other", name="i1")
    undone = job.undo()
    assert "kept: index i1 of shop.c1: it is another one by now" in told(undone)
    assert list(pair.target_client.shop.c1.index_information()) == ["_id_", "i1"]


def test_expiry_was_changed(pair: Pair, tmp_path: Path) -> None:
    """And so the index is another one, too."""
    job = existing(pair, tmp_path)
    change = {"name": "i2", "expireAfterSeconds": 12345}
    pair.target_client.shop.command({"collMod": "c1", "index": change})
    undone = job.undo()
    assert "kept: the expiry of index i2 of shop.c1: it is another one by now" in told(undone)
    assert list(pair.target_client.shop.c1.index_information()) == ["_id_", "i2"]


def test_expiry_of_a_collection_was_changed(pair: Pair, tmp_path: Path) -> None:
    OURS["clustered"](pair.source_client.shop, "c1")
    job = done(pair, tmp_path)
    pair.target_client.shop.command({"collMod": "c1", "expireAfterSeconds": Int64(999)})
    pair.target_client.shop.c1.insert_one({"_id": "foreign"})
    undone = job.undo()
    assert "kept: the expiry of shop.c1: it is another one by now" in told(undone)
    found = there(pair.target_client, NAME)
    assert found is not None
    assert b"expireAfterSeconds" in found.options


# --- names ---


def test_system_js(pair: Pair, tmp_path: Path) -> None:
    """Servers do not drop it; by another name they do."""
    pair.source_client.shop["system.js"].insert_one({"_id": "f", "value": 1})
    for lay in ([], [{"_id": "g", "value": 2}]):
        pair.target_client.drop_database("shop")
        pair.target_client.shop.beside.insert_one({"_id": 1})
        if lay:
            pair.target_client.shop["system.js"].insert_many(lay)
        before = world(pair.target_client)
        folder = tmp_path / str(len(lay))
        job = job_of(pair, folder, "shop.system.js", drop=True, swap="k5")
        job.run()
        assert pair.target_client.shop["system.js"].find_one() == {"_id": "f", "value": 1}
        assert kept(job.undo()) == 0
        assert world(pair.target_client) == before


def test_names_of_any_length(pair: Pair, tmp_path: Path) -> None:
    """At most 255 bytes with the database's, and another one for each collection."""
    longest = "d" * 63 + "." + "ä" * ((255 - 64) // 2)
    database, _, collection = longest.partition(".")
    for client in (pair.source_client, pair.target_client):
        client.drop_database(database)
        client[database][collection].insert_one({"_id": 1})
    job = job_of(pair, tmp_path, longest, drop=True, swap="k5")
    before = world(pair.target_client)
    job.run()
    ((_, other),) = kept_by(job.folder)
    assert len(other.encode()) < 255
    assert len(job.filled.target.encode()) < 255
    job.undo()
    assert world(pair.target_client) == before
    pair.target_client.drop_database(database)
    pair.source_client.drop_database(database)


def test_only_ordinary_collections_are_filled_under_another_name(
    pair: Pair, tmp_path: Path
) -> None:
    for kind, between in (("collection", True), ("view", False), ("time series", False)):
        pair.source_client.drop_database("shop")
        OURS[kind](pair.source_client.shop, "c1")
        job = job_of(pair, tmp_path, swap="k5")
        assert (staged(job.unit, job.spec).target != NAME) is between
        assert staged(job.unit, job.spec.model_copy(update={"swap": ""})).target == NAME


def test_a_swap_shows_the_old_until_all_is_there(pair: Pair, tmp_path: Path) -> None:
    pair.target_client.shop.c1.insert_one({"_id": "theirs"})
    OURS["collection"](pair.source_client.shop, "c1")
    job = job_of(pair, tmp_path, swap="k5")
    for step in job.tasks()[:-1]:
        step()
        assert list(pair.target_client.shop.c1.find()) == [{"_id": "theirs"}]
    job.tasks()[-1]()
    assert pair.target_client.shop.c1.count_documents({}) == 3
    assert not [each for each in names(pair.target_client) if each.startswith(STAGING)]


def test_a_swap_whose_filled_collection_is_gone(pair: Pair, tmp_path: Path) -> None:
    """What bears the name is left alone."""
    pair.target_client.shop.c1.insert_one({"_id": "theirs"})
    OURS["collection"](pair.source_client.shop, "c1")
    job = job_of(pair, tmp_path, swap="k5")
    for step in job.tasks()[:-1]:
        step()
    pair.target_client.drop_database("x")
    pair.target_client.shop.drop_collection(job.filled.target.partition(".")[2])
    with pytest.raises(OtherCollection):
        job.tasks()[-1]()
    assert list(pair.target_client.shop.c1.find()) == [{"_id": "theirs"}]


# --- what is recorded, what is freed ---


def test_a_job_that_records_nothing(pair: Pair, tmp_path: Path) -> None:
    pair.target_client.shop.c1.insert_one({"_id": "theirs"})
    job = done(pair, tmp_path, undo=False, drop=True)
    assert not list(job.folder.rglob("*"))
    assert names(pair.target_client) == ["c1"]
    assert job.unit.found == ""


@pytest.mark.parametrize(
    ("lay", "found"), [("", "nothing"), ("empty", "empty"), ("full", "documents")]
)
def test_what_lay_there_is_told(pair: Pair, tmp_path: Path, lay: str, found: str) -> None:
    """Over all attempts: what the first one made, the next ones did not find."""
    indexed({"key": {"a": 1}})(pair.source_client.shop, "c1")
    if lay:
        created(documents=5 if lay == "full" else 0)(pair.target_client.shop, "c1")
    job = job_of(pair, tmp_path)
    for _ in range(2):
        assert create(pair.target_client, job.unit, job.spec, job.folder).found == found


@pytest.mark.parametrize("drop", [False, True], ids=["merged", "dropped"])
def test_others_made_it_after_the_process_died(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, drop: bool
) -> None:
    """I40: what they wrote is no less theirs for what the log was about to do."""
    OURS["collection"](pair.source_client.shop, "c1")
    job = job_of(pair, tmp_path, on_conflict="overwrite", drop=drop)
    with dying(monkeypatch, 0, done=False), pytest.raises(Died):
        job.run()
    pair.target_client.shop.c1.insert_one({"_id": "theirs"})
    before = world(pair.target_client)
    job.tasks()[0]()
    assert job.unit.found == ("nothing" if drop else "documents")
    assert bool(kept_by(job.folder)) == drop
    job.undo()
    assert world(pair.target_client) == before


def test_what_was_kept_is_freed(pair: Pair, tmp_path: Path) -> None:
    """And what never got its own name; a second time there is nothing."""
    pair.target_client.shop.c1.insert_one({"_id": "theirs"})
    first = done(pair, tmp_path / "a", drop=True)
    second = job_of(pair, tmp_path / "b", swap="k5")
    second.tasks()[0]()
    assert len(names(pair.target_client)) == 3
    for job, word in ((first, "before"), (second, "never")):
        (line,) = free(pair.target_client, job.folder)
        assert word in line
        assert free(pair.target_client, job.folder) == ()
        assert kept_by(job.folder) == []
        assert not list(job.folder.rglob("*"))
    assert names(pair.target_client) == ["c1"]


def test_nothing_else_is_freed(pair: Pair, tmp_path: Path) -> None:
    """Another collection may have the name by now."""
    pair.target_client.shop.c1.insert_one({"_id": "theirs"})
    job = done(pair, tmp_path, drop=True)
    ((_, other),) = kept_by(job.folder)
    collection = other.partition(".")[2]
    assert collection.startswith(KEPT)
    pair.target_client.shop.drop_collection(collection)
    pair.target_client.shop[collection].insert_one({"_id": "foreign"})
    assert free(pair.target_client, job.folder) == ()
    assert collection in names(pair.target_client)


@pytest.mark.parametrize("kind", NAMING)
def test_who_cleans_up_finds_every_name_that_is_freed(tmp_path: Path, kind: TaskKind) -> None:
    """I44: also of a log that was replayed, whose collections are no units of the job."""
    with CatalogueLog(undo_path(tmp_path, TaskKey(kind, "x"))) as log:
        log.note({"k": "kept", "ns": "shop.c", "as": f"shop.{KEPT}1", "uuid": "u"})
    assert kept_by(tmp_path) == [("shop.c", f"shop.{KEPT}1")]
    assert named_in_logs(tmp_path) == {"shop.c", f"shop.{KEPT}1"}
