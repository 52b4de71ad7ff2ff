"""What CREATE, INDEX and FINISH did is taken back: the target is as before, to the byte, wherever
the process died (I40), and however often it is undone (I39)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Pair
from tests.executors.kinds import AGES_AGO, VIEWS, Db, Maker, measured
from tests.executors.undo.job import OURS, Job, job_of, kept
from tests.executors.undo.world import Held, deaths, nothing_expires, world

pytestmark = pytest.mark.server


@pytest.fixture(autouse=True)
def _nothing_expires_in_time(servers: Pair) -> Iterator[None]:
    with nothing_expires(servers.source_client, servers.target_client):
        yield


def theirs(db: Db, name: str) -> None:
    """Other documents, one index by the name of one of ours, one of their own."""
    documents = [{"_id": f"x{n}", "a": f"x{n}", "at": AGES_AGO} for n in range(3)]
    db.command({"insert": name, "documents": documents})
    indexes = [{"name": "i1", "key": {"b": 1}, "sparse": True}, {"name": "own", "key": {"c": 1}}]
    db.command({"createIndexes": name, "indexes": indexes})


LAY: dict[str, Maker] = {
    "nothing": lambda db, name: db["beside"].insert_one({"_id": 1}),
    "empty": lambda db, name: db.command({"create": name}),
    "documents": theirs,
    "view": VIEWS["view"],
    "time series": measured({"key": {"v": 1}}, metaField="m"),
}


Settings = dict[str, object]
Case = tuple[str, str, Settings]
QUICK: list[Case] = [
    ("nothing", "collection", {}),
    ("documents", "collection", {}),
    *((lay, "collection", {"drop": True}) for lay in ("documents", "view")),
    ("time series", "time series", {"drop": True}),
    ("documents", "collection", {"swap": "k5"}),
]
DEEP: list[Case] = [
    *(("nothing", ours, {}) for ours in ("view", "time series", "clustered")),
    ("empty", "collection", {}),
    *((lay, "collection", {"drop": True}) for lay in ("nothing", "empty", "time series")),
    *(("documents", ours, {"drop": True}) for ours in ("view", "time series")),
    ("view", "view", {"drop": True}),
    *((lay, "collection", {"swap": "k5"}) for lay in LAY if lay != "documents"),
]
CASES = [*QUICK, *(pytest.param(case, marks=pytest.mark.deep) for case in DEEP)]


@dataclass
class Stage:
    """A target before a job, prepared anew for each try."""

    pair: Pair
    folder: Path
    case: Case
    tries: int = 0

    @property
    def now(self) -> dict[str, Held]:
        """Servers do not rename time series: what was one is made again."""
        return world(self.pair.target_client, uuids=self.case[0] != "time series")

    def prepare(self) -> tuple[Job, dict[str, Held]]:
        lay, ours, settings = self.case
        self.tries += 1
        if self.tries == 1:
            OURS[ours](self.pair.source_client.shop, "c1")
        self.pair.target_client.drop_database("shop")
        LAY[lay](self.pair.target_client.shop, "c1")
        job = job_of(self.pair, self.folder / str(self.tries), **settings)
        return job, self.now

    def finished(self) -> tuple[Job, dict[str, Held]]:
        job, before = self.prepare()
        job.run()
        return job, before


@pytest.fixture(params=CASES, ids=lambda case: "-".join(map(str, case)))
def stage(request: pytest.FixtureRequest, pair: Pair, tmp_path: Path) -> Stage:
    return Stage(pair, tmp_path, request.param)


@pytest.mark.parametrize("again", [False, True], ids=["died", "resumed"])
def test_the_target_is_as_before(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    """I40, I39: dead at any step, and gone on or not; each undo twice."""
    for job, before in deaths(monkeypatch, stage.prepare, lambda prepared: prepared[0].run()):
        if again:
            job.run()
        assert kept(job.undo(times=2)) == 0
        assert stage.now == before


def test_dead_while_undoing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """I39, I40."""
    for job, before in deaths(monkeypatch, stage.finished, lambda made: made[0].undo()):
        assert kept(job.undo()) == 0
        assert stage.now == before
