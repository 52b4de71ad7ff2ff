"""Chains end to end: a full dump and increments under load and kills, each state of them exact; and
chains that are not whole, which write nothing."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from ferrylog.embedded import Mongod
from tests.conftest import Pair
from tests.end_to_end import applied, chains, snapshots
from tests.end_to_end.chains import Size, Trial, link
from tests.end_to_end.trials import Program

pytestmark = pytest.mark.server
SMALL = Size(
    documents=4_000,
    links=2,
    changes=1_000,
    chunk_docs=250,
    kills=1,
    kill_within_s=0.6,
    kills_restoring=3,
    ddl_every_s=0.3,
)
MORE = replace(
    SMALL,
    documents=20_000,
    changes=3_000,
    chunk_docs=400,
    kills=2,
    kill_within_s=2.0,
    kills_restoring=5,
)


@pytest.fixture
def _impatient(servers: Pair) -> Iterator[None]:
    """A transaction that a killed process left open is gone on the target after 3 s, not 60."""
    admin = servers.target_client.admin
    admin.command("setParameter", 1, transactionLifetimeLimitSeconds=3)
    yield
    admin.command("setParameter", 1, transactionLifetimeLimitSeconds=60)


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize(
    "size", [SMALL, pytest.param(MORE, marks=pytest.mark.deep)], ids=["small", "more"]
)
def test_every_link_is_exact_under_load_and_kills(pair: Pair, tmp_path: Path, size: Size) -> None:
    """I31, I32, I33, Y11, Y12: 1,000 changes a second, of the catalogue too."""
    with Trial(pair.source, pair.target, tmp_path, size, seed=1) as trial:
        trial.full()
        for _ in range(size.links):
            trial.writer.await_changes(size.changes)
            trial.increment()
        trial.writer.say("rest")
        story = trial.under_fire(trial.restore_each(), mongod=0)
    print(story.table())
    assert not trial.problems
    assert story.kills_applying
    assert len(story.shards) >= 4


@pytest.mark.deep
def test_the_whole_trial(tmp_path: Path) -> None:
    """Y12: five links of 100,000 changes and more, twenty kills of a restore, a followed source."""
    size = Size()
    with (
        Mongod(tmp_path / "source", name="source", cache_gb=1.5) as source,
        Mongod(tmp_path / "target", name="target", cache_gb=1.5) as target,
        Trial(source, target, tmp_path, size, seed=1) as trial,
    ):
        story = chains.run(trial, follow_s=60)
    assert not trial.problems
    assert story.kills_applying >= 15


# --- what is kept apart -----------------------------------------------------------------------


@dataclass
class Made:
    """A chain of three links, and what each is to lead to."""

    chain: Path
    states: list[snapshots.Reference]
    pair: Pair
    folder: Path
    runs: int = 0

    def copy(self) -> Path:
        self.runs += 1
        return Path(shutil.copytree(self.chain, self.folder / f"copy-{self.runs}"))

    def program(self) -> Program:
        self.runs += 1
        return Program(self.folder / f"run-{self.runs}")

    def restore(self, chain: Path, *more: str) -> Any:
        target = self.pair.target.uri
        return self.program().ended("restore", "--from", chain, "--target", target, *more)

    def untouched(self) -> bool:
        return not snapshots.present(self.pair.target.uri).collections


@pytest.fixture(scope="module")
def chain(servers: Pair, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Collections are changed, dropped and created again; names are exchanged; one is gone."""
    servers.empty()
    folder = tmp_path_factory.mktemp("chain")
    made = Made(folder / "dump", [], servers, folder)
    shop = servers.source_client["shop"]
    shop["orders"].insert_many([{"_id": n, "x": n, "u": n} for n in range(300)])
    shop["orders"].create_index("u", unique=True)
    shop["again"].insert_many([{"_id": n, "old": True} for n in range(50)])
    for name in ("one", "other"):
        shop[name].insert_many([{"_id": n, "name": name} for n in range(20)])
    _link(made)
    shop["orders"].update_many({"_id": {"$lt": 100}}, {"$set": {"x": "changed"}})
    shop["orders"].delete_many({"_id": {"$gt": 250}})
    shop["again"].drop()
    shop["again"].insert_many([{"_id": n, "new": True} for n in range(30, 70)])
    _link(made, "--incremental")
    shop["one"].rename("spare")
    shop["other"].rename("one")
    shop["spare"].rename("other")
    shop["one"].update_one({"_id": 3}, {"$set": {"x": 1}})
    shop["orders"].create_index("x", name="by x")
    for key, unique in ((1, -1), (2, 1), (1, 2)):  # both exchange what is unique
        shop["orders"].update_one({"_id": key}, {"$set": {"u": unique}})
    _link(made, "--incremental")
    shop["other"].drop()
    shop.command("collMod", "orders", validator={"x": {"$exists": True}})
    shop["orders"].insert_many([{"_id": n, "x": 0, "u": n} for n in range(1_000, 1_100)])
    _link(made, "--incremental")
    return made


def _link(made: Made, *more: str) -> None:
    how = more or ("--consistency", "snapshot")
    source = made.pair.source.uri
    made.program()("dump", "--source", source, "--out", made.chain, "--chunk-docs", "40", *how)
    made.states.append(snapshots.present(source))


def test_each_link_by_itself(chain: Made, pair: Pair) -> None:
    """I33, Y1: a collection that was dropped and created again, names that were exchanged, values
    that are unique, options and indexes."""
    for number, state in enumerate(chain.states):
        pair.target_client.drop_database("shop")
        done = chain.restore(chain.chain, "--to-increment", str(number))
        assert done.returncode == 0, done.stderr
        assert not snapshots.judge(pair.target.uri, state), number


def test_without_a_number_it_is_the_last(chain: Made, pair: Pair) -> None:
    done = chain.restore(chain.chain)
    assert done.returncode == 0, done.stderr
    assert not snapshots.judge(pair.target.uri, chain.states[-1])


def test_the_journal_tells_of_every_shard(chain: Made, pair: Pair) -> None:
    """I31, I32, Y5: last keys grow, links come in turn."""
    program = chain.program()
    program("restore", "--from", chain.chain, "--target", pair.target.uri)
    story = applied.read(applied.events(program.journal))
    assert not story.problems
    assert len(story.shards) >= 6
    assert {each.rows for each in story.shards.values() if each.completed} != {0}


# --- what is not whole ------------------------------------------------------------------------


def _missing(chain: Path) -> None:
    shutil.rmtree(link(chain, 2))


def _without_manifest(chain: Path) -> None:
    (link(chain, 2) / "manifest.json").unlink()


def _altered(chain: Path) -> None:
    file = max(link(chain, 2).rglob("*.flb"), key=lambda path: path.stat().st_size)
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)


def _altered_manifest(chain: Path) -> None:
    path = link(chain, 2) / "manifest.json"
    path.write_text(path.read_text().replace("shop.orders", "shop.ordert"))


def _lost_file(chain: Path) -> None:
    next(link(chain, 2).rglob("*.flb")).unlink()


def _exchanged(chain: Path) -> None:
    link(chain, 2).rename(chain / "spare")
    link(chain, 3).rename(link(chain, 2))
    (chain / "spare").rename(link(chain, 3))


def _last_twice(chain: Path) -> None:
    shutil.rmtree(link(chain, 2))
    shutil.copytree(link(chain, 3), link(chain, 2))


def _other_full_dump(chain: Path) -> None:
    """Whole by itself, and not what the increments follow."""
    path = chain / "manifest.json"
    *lines, _ = path.read_text().splitlines(keepends=True)
    body = "".join(lines).replace('"created": "', '"created": "1')
    path.write_text(body + f'"sha256": "{sha256(body.encode()).hexdigest()}"}}\n')


BROKEN = {
    "a missing link": (_missing, "ECHAIN002", 2),
    "no manifest": (_without_manifest, "ECHAIN002", 2),
    "an altered file": (_altered, "ECHAIN006", 2),
    "an altered manifest": (_altered_manifest, "ECHAIN006", 2),
    "a lost file": (_lost_file, "ECHAIN006", 2),
    "exchanged links": (_exchanged, "ECHAIN004", 2),
    "the last link twice": (_last_twice, "ECHAIN004", 2),
    "another full dump": (_other_full_dump, "ECHAIN004", 1),
}


@pytest.mark.parametrize(("harm", "code", "number"), BROKEN.values(), ids=BROKEN)
def test_a_broken_chain_writes_nothing(
    harm: Callable[[Path], None], code: str, number: int, chain: Made, pair: Pair
) -> None:
    """I33, Y9: told by name, with exit 4, before the first write; what lies before is applied."""
    copy = chain.copy()
    harm(copy)
    done = chain.restore(copy)
    assert (done.returncode, code in done.stderr) == (4, True), done.stderr
    assert f"link {number}" in done.stderr
    assert chain.untouched()
    told = chain.restore(copy, "--to-increment", str(number - 1))
    if number > 1:
        assert told.returncode == 0, told.stderr
        assert not snapshots.judge(pair.target.uri, chain.states[number - 1])


@pytest.mark.parametrize("more", [("--to-increment", "4"), ("--at", "2001-01-01T00:00:00Z")])
def test_a_state_that_the_chain_does_not_hold(
    more: tuple[str, str], chain: Made, pair: Pair
) -> None:
    done = chain.restore(chain.chain, *more)
    assert done.returncode == 2, done.stderr
    assert chain.untouched()


def test_an_increment_of_another_source(chain: Made, pair: Pair) -> None:
    """The same data elsewhere are not the same source: what changed there is not known here."""
    copy = chain.copy()
    words = ("dump", "--source", pair.target.uri, "--out", copy, "--incremental")
    done = chain.program().ended(*words)
    assert "ECHAIN005" in done.stderr
    assert done.returncode
    assert not link(copy, 4).exists()


def test_a_target_that_is_not_where_the_chain_is(chain: Made, pair: Pair) -> None:
    """What lies there already is not taken for the chain's."""
    pair.target_client["shop"]["orders"].insert_one({"_id": 1, "mine": True})
    done = chain.restore(chain.chain)
    assert done.returncode not in (0, 70), done.stderr
    assert pair.target_client["shop"]["orders"].find_one({"_id": 1, "mine": True})


def test_inspect_tells_the_links(chain: Made, pair: Pair) -> None:
    told = json.loads(chain.program()("inspect", "chain", chain.chain, "--json"))
    assert told["schema"] == "ferrylog.chain/1"
