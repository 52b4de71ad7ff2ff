"""Parts of a job that are taken back, and rollbacks that are asked for at an odd moment."""

import json
import signal
from pathlib import Path

import pytest

from tests.conftest import Pair
from tests.end_to_end import every_kind
from tests.end_to_end.test_main_job import Terminal, until


def test_what_was_inserted_goes_though_its_collection_stays(pair: Pair, tmp_path: Path) -> None:
    """I42: a rollback down to the creation of a collection takes out what the chunks brought; the
    rest of the rollback then takes the collection, too."""
    pair.source_client.shop.orders.insert_many([{"_id": n, "a": n} for n in range(1000)])
    ferrylog = Terminal(tmp_path, pair)
    assert ferrylog("start", "--chunk-docs", "100").returncode == 0
    target = pair.target_client.shop
    target.orders.insert_one({"_id": "theirs"})
    foretold = ferrylog("rollback", "--to", "create shop.orders", "--dry-run").stdout
    assert "delete what it brought to shop.orders" in foretold
    assert "nothing by itself" in ferrylog("rollback", "--dry-run").stdout
    taken = ferrylog("rollback", "--to", "create shop.orders")
    assert taken.returncode == 0, taken.stderr
    assert list(target.orders.find({})) == [{"_id": "theirs"}]
    target.orders.delete_one({"_id": "theirs"})
    taken = ferrylog("rollback")
    assert taken.returncode == 0, taken.stderr
    assert every_kind.read(pair.target_client) == {}


def test_chunks_before_the_operation_stay(pair: Pair, tmp_path: Path) -> None:
    """I42: exactly what came after it goes; the rest of the rollback finds the rest."""
    pair.source_client.shop.orders.insert_many([{"_id": n, "a": n} for n in range(1000)])
    ferrylog = Terminal(tmp_path, pair)
    assert ferrylog("start", "--chunk-docs", "100", "--restore-workers", "1").returncode == 0
    target = pair.target_client.shop
    taken = ferrylog("rollback", "--to", "restore shop.orders#4")
    assert taken.returncode == 0, taken.stderr
    left = target.orders.count_documents({})
    assert 0 < left < 1000
    pair.source_client.drop_database("shop")
    taken = ferrylog("rollback")
    assert taken.returncode == 0, taken.stderr
    assert every_kind.read(pair.target_client) == {}


def test_a_killed_job_without_a_record_does_not_go_on(pair: Pair, tmp_path: Path) -> None:
    """M6: what is refused does nothing, above all not the opposite."""
    pair.source_client.shop.orders.insert_many([{"_id": n, "a": "b" * 50} for n in range(100_000)])
    ferrylog = Terminal(tmp_path, pair)
    process = ferrylog.begin("start", "--no-undo", "--chunk-docs", "1000")
    until(lambda: "restore_completed" in ferrylog.kinds())
    process.kill()
    process.communicate()
    events = len(ferrylog.kinds())
    taken = ferrylog("rollback")
    assert taken.returncode == 2, taken.stderr
    assert "without a record" in taken.stderr
    assert len(ferrylog.kinds()) == events


def test_a_running_job_is_not_taken_back_partly(pair: Pair, tmp_path: Path) -> None:
    """I42: how it is to be taken back is not forgotten on the way to the process that runs it; a
    job that can not be taken back is not even stopped for it."""
    pair.source_client.shop.orders.insert_many([{"_id": n, "a": "b" * 50} for n in range(100_000)])
    ferrylog = Terminal(tmp_path, pair)
    process = ferrylog.begin("start", "--no-undo", "--chunk-docs", "200")
    until(lambda: "restore_completed" in ferrylog.kinds())
    for words in (("--to", "create shop.orders"), ("--force",), ("--continue-on-error",)):
        refused = ferrylog("rollback", *words)
        assert refused.returncode == 2, refused.stderr
        assert "runs" in refused.stderr
    refused = ferrylog("stop", "--rollback")
    assert refused.returncode == 2, refused.stderr
    assert "without a record" in refused.stderr
    process.kill()
    process.communicate()
    assert "stop_requested" not in ferrylog.kinds()


def test_who_has_it_taken_back_wants_no_other_target(pair: Pair, tmp_path: Path) -> None:
    """M2: a restore to several targets does not go on with the next one behind that."""
    pair.source_client.shop.orders.insert_many([{"_id": n, "a": "b" * 50} for n in range(100_000)])
    ferrylog, place = Terminal(tmp_path, pair), str(tmp_path / "dump")
    assert ferrylog("dump", "--out", place, "--chunk-docs", "200").returncode == 0
    pair.source_client.drop_database("shop")
    uris = "--target", pair.target.uri, "--target", pair.source.uri
    process = ferrylog.begin("restore", "--from", place, *uris)
    until(lambda: "restore_completed" in ferrylog.kinds())
    assert ferrylog("stop", "--immediate", "--rollback").returncode == 0
    _, said = process.communicate(timeout=120)
    assert process.returncode == 6, said
    assert every_kind.read(pair.target_client) == every_kind.read(pair.source_client) == {}


def test_an_index_that_was_asked_for_again_after_the_swap(pair: Pair, tmp_path: Path) -> None:
    """I40, M6: it was built under another name than that which its collection has by then."""
    source, target = pair.source_client.shop.orders, pair.target_client.shop.orders
    source.insert_many([{"_id": n, "a": n, "b": n} for n in range(200)])
    source.insert_one({"_id": 500, "a": [1], "b": [1]})
    source.create_index("a", name="a")
    target.insert_one({"_id": "old"})
    before = every_kind.read(pair.target_client)
    ferrylog, place = Terminal(tmp_path, pair), tmp_path / "dump"
    assert ferrylog("dump", "--out", str(place), "--layout", "mongodump").returncode == 0
    described = next(place.glob("**/orders.metadata.json"))
    one, two = (
        '"key":{"a":{"$numberInt":"1"}' + more for more in ("}", ',"b":{"$numberInt":"1"}}')
    )
    described.write_text(described.read_text().replace(one, two))
    assert ferrylog("restore", "--from", str(place), "--swap").returncode == 3
    target.delete_one({"_id": 500})
    assert ferrylog("dead-letters", "requeue", "--all").returncode == 0
    assert ferrylog("resume").returncode == 0
    assert "a" in target.index_information()
    taken = ferrylog("rollback")
    assert taken.returncode == 0, taken.stderr
    assert every_kind.differences(before, every_kind.read(pair.target_client)) == []


@pytest.mark.deep
def test_undo_logs_lie_in_one_folder(pair: Pair, tmp_path: Path) -> None:
    """I40: a job does not go on with another work folder than that which holds what it recorded;
    when that was moved, it does."""
    pair.source_client.shop.orders.insert_many([{"_id": n, "a": "b" * 50} for n in range(50_000)])
    pair.target_client.shop.orders.insert_one({"_id": "old"})
    before = every_kind.read(pair.target_client)
    ferrylog, one, two = Terminal(tmp_path, pair), tmp_path / "one", tmp_path / "two"
    words = "--on-conflict", "skip", "--chunk-docs", "500", "--work-dir", str(one)
    process = ferrylog.begin("start", *words)
    until(lambda: "restore_completed" in ferrylog.kinds())
    process.kill()
    process.communicate()
    refused = ferrylog("resume", "--work-dir", str(two))
    assert refused.returncode == 2, refused.stderr
    assert "undo logs" in refused.stderr
    one.rename(two)
    assert ferrylog("resume", "--work-dir", str(two)).returncode == 0
    taken = ferrylog("rollback")
    assert taken.returncode == 0, taken.stderr
    assert every_kind.differences(before, every_kind.read(pair.target_client)) == []


def test_the_target_is_the_one_of_the_job(pair: Pair, tmp_path: Path) -> None:
    """I41: where the job did nothing, nothing is taken back, and nothing is freed."""
    pair.source_client.shop.orders.insert_many([{"_id": n} for n in range(100)])
    pair.target_client.shop.orders.insert_one({"_id": "old"})
    before = every_kind.read(pair.target_client)
    ferrylog = Terminal(tmp_path, pair)
    assert ferrylog("start", "--drop").returncode == 0
    for words in ("rollback", "commit"):
        refused = ferrylog(words, "--target", pair.source.uri)
        assert (refused.returncode, "ERESUME001" in refused.stderr) == (1, True), refused.stderr
    assert "rollback_started" not in ferrylog.kinds()
    assert ferrylog("rollback").returncode == 0
    assert every_kind.differences(before, every_kind.read(pair.target_client)) == []


def test_the_places_of_a_group_are_those_of_the_group(pair: Pair, tmp_path: Path) -> None:
    """I41: an inverse is not sent to somebody else's server."""
    a_to_b = {"endpoints": {"a": None}, "title": "one", "operations": [{
        "id": "make", "on": "a", "database": "shop",
        "forward": {"create": "made"}, "compensation": {"drop": "made"},
    }]}  # fmt: skip
    (tmp_path / "ops.json").write_text(json.dumps(a_to_b))
    pair.source_client.shop.made.insert_one({"_id": "theirs"})
    ferrylog, there = Terminal(tmp_path, pair), f"a={pair.target.uri}"
    done = ferrylog("ops", "run", str(tmp_path / "ops.json"), "--endpoint", there)
    assert done.returncode == 0, done.stderr
    refused = ferrylog("rollback", "--endpoint", f"a={pair.source.uri}")
    assert refused.returncode == 1, refused.stderr
    assert "endpoint a" in refused.stderr
    assert pair.source_client.shop.made.find_one()
    assert ferrylog("rollback", "--endpoint", there).returncode == 0
    assert every_kind.read(pair.target_client) == {}


def test_a_rollback_goes_on_as_it_was_begun(pair: Pair, tmp_path: Path) -> None:
    """I38: and who asked for it is told that it is no resume that goes on with the job."""
    pair.source_client.shop.orders.insert_many([{"_id": n} for n in range(8_000)])
    pair.target_client.shop.orders.insert_one({"_id": "old"})
    before = every_kind.read(pair.target_client)
    ferrylog = Terminal(tmp_path, pair)
    merge = "start", "--chunk-docs", "100", "--on-conflict", "skip"
    assert ferrylog(*merge).returncode == 0
    process = ferrylog.begin("rollback")
    until(lambda: "rollback_started" in ferrylog.kinds())
    process.kill()
    process.communicate()
    assert "job_rolled_back" not in ferrylog.kinds()
    for words in (("--to", "create shop.orders"), ("--force",), ("--continue-on-error",)):
        refused = ferrylog("rollback", *words)
        assert refused.returncode == 2, refused.stderr
        assert "as it was begun" in refused.stderr
    assert "ferrylog rollback" in ferrylog("status").stdout
    assert "take it back with: ferrylog rollback" in ferrylog("watch").stderr
    again = ferrylog(*merge)
    assert again.returncode == 6
    assert "taking back the unfinished job" in again.stderr
    assert every_kind.differences(before, every_kind.read(pair.target_client)) == []


def test_a_paused_job_is_stopped_to_be_taken_back(pair: Pair, tmp_path: Path) -> None:
    """M2: nobody runs it; the next run takes it back, and everybody says so."""
    pair.source_client.shop.orders.insert_many([{"_id": n, "a": "b" * 50} for n in range(20_000)])
    ferrylog = Terminal(tmp_path, pair)
    process = ferrylog.begin("start", "--chunk-docs", "200")
    until(lambda: "restore_completed" in ferrylog.kinds())
    process.send_signal(signal.SIGINT)
    process.communicate()
    stopped = ferrylog("stop", "--rollback")
    assert stopped.returncode == 0, stopped.stderr
    assert "ferrylog rollback" in stopped.stderr
    assert "ferrylog resume" not in stopped.stderr
    assert "ferrylog resume" not in ferrylog("status").stdout
    assert ferrylog("resume").returncode == 6
    assert every_kind.read(pair.target_client) == {}


def test_a_full_disk_is_no_hindrance(pair: Pair, tmp_path: Path) -> None:
    """I40: what was recorded is read; that nothing more can be written there is no matter."""
    pair.source_client.shop.orders.insert_many([{"_id": n} for n in range(1000)])
    pair.target_client.shop.orders.insert_one({"_id": "old"})
    before = every_kind.read(pair.target_client)
    ferrylog = Terminal(tmp_path, pair)
    assert ferrylog("start", "--chunk-docs", "100", "--on-conflict", "skip").returncode == 0
    (folder,) = (tmp_path / "ferrylog.db.d").iterdir()
    (folder / ".writable").mkdir()  # where whoever prepares a folder writes first
    taken = ferrylog("rollback")
    assert taken.returncode == 0, taken.stderr
    assert every_kind.differences(before, every_kind.read(pair.target_client)) == []
