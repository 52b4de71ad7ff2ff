"""Disks that lie and files that rot: the history is whole, or the journal refuses."""

from collections import Counter

import pytest

from journal.sqlite import SqliteJournal
from journal.tip import SLOT
from tests.counts import count
from tests.faults.damage import FILES, Kind, damaged, large_journal, shorter_pages, states
from tests.faults.disk import PATH, Build, ModelDisk
from tests.faults.verdict import Verdict, verdict, verdicts
from tests.faults.workload import record, repeatable, rows

NAMES = {"flip": "flipped bits", "cut": "files cut short", "old": "older copies of one file"}


def damage(kind: Kind, seeds: range, lots: int, *, large: bool) -> Counter[tuple[str, Verdict]]:
    answers: Counter[tuple[str, Verdict]] = Counter()
    for seed in seeds:
        for n in range(lots):
            with repeatable("damage", f"{kind}/{seed}/{n}"):
                answer = damaged(kind, seed, n, large=large)
                assert answer[1] != "silent", f"another history, without a word: {answer[0]}"
            answers[answer] += 1
    for told in ("refused", "whole"):
        total = sum(n for (_, verdict), n in answers.items() if verdict == told)
        count(f"{NAMES[kind]}: {told}", total)
    count(f"{NAMES[kind]}: silent", 0)
    return answers


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_a_flipped_bit(large: bool) -> None:
    """I2, I4: in the database, the log or the tip: refused, or the very same history; also where
    an opening does not check every page. Every flip in a log is refused, none in a tip."""
    answers = damage("flip", range(1, 4), 350, large=large)
    logs = {where: n for (where, told), n in answers.items() if told == "refused"}
    assert logs.get("-wal", 0) + logs.get("-wal, all of it in the database", 0) > 100
    assert answers["-wal", "whole"] == 0
    assert answers[".tip", "refused"] == 0
    assert answers["db", "refused"] > 100


def test_a_page_that_lost_its_last_entry() -> None:
    """I2: no index hides how a job ended, also where an opening does not check every page."""
    with large_journal():
        answers = Counter(verdict(*state) for seed in range(1, 6) for state in shorter_pages(seed))
    assert answers["silent"] == 0
    assert answers["refused"] > 10


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_a_file_cut_short(large: bool) -> None:
    """I2, I4."""
    damage("cut", range(1, 4), 150, large=large)


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_an_older_copy_of_one_file(large: bool) -> None:
    """I1, I4: the other two tell. An older tip alone does no harm."""
    answers = damage("old", range(10, 30), 10, large=large)
    assert answers[".tip", "refused"] == 0
    assert answers["db", "refused"] > answers["db", "whole"]  # one that the log brings up to date


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(100, 110))
def test_more_damage(seed: int) -> None:
    """I2, I4."""
    for large in (False, True):
        damage("flip", range(seed, seed + 1), 2000, large=large)
        damage("cut", range(seed, seed + 1), 400, large=large)


@pytest.mark.parametrize(
    "every",
    [n if n in (3, 5) else pytest.param(n, marks=pytest.mark.deep) for n in range(3, 10)],
)
def test_a_sync_that_lies(every: int) -> None:
    """I4: every n-th sync does nothing, then the power fails: whole or refused."""
    answers = verdicts(record(every, Build(lie_every=every)), 3, every)
    count("disks after lying syncs: refused", answers["refused"])
    count("disks after lying syncs: whole", answers["whole"])
    count("disks after lying syncs: silent", answers["silent"])
    assert answers["silent"] == 0
    assert answers["refused"] > 0


@pytest.mark.parametrize("every", [1, 2])
def test_where_the_tip_ends(every: int) -> None:
    """What nobody can find: the syncs of journal and tip both lie, so that nothing of the last
    events is durable anywhere. This is the limit that the page on durability names."""
    answers = verdicts(record(every, Build(lie_every=every)), 3, every)
    assert answers["refused"] > answers["silent"] > 0


def test_two_damages_hide_at_most_the_last_batch() -> None:
    """I4: one flip is never silent; it takes one in the tip's newest record and one in the log,
    and all but the last batch is still missed at once."""
    image, promise = states(1)[1]
    tip, log = bytearray(image[FILES[2]]), bytearray(image[FILES[1]])
    newest = max((0, SLOT), key=lambda at: int.from_bytes(tip[at + 8 : at + 16], "little"))
    older = int.from_bytes(tip[(SLOT - newest) + 8 :][:8], "little")
    tip[newest + 20] ^= 1
    answers: Counter[Verdict] = Counter()
    for at in range(24, len(log), 509):
        flipped = bytearray(log)
        flipped[at] ^= 1
        both = {**image, FILES[1]: bytes(flipped), FILES[2]: bytes(tip)}
        answers[told := verdict(both, promise)] += 1
        if told == "silent":
            with SqliteJournal.create(PATH, ModelDisk(both)) as journal:
                found = rows(journal)
            assert len(found) >= older
            assert promise.kept[: len(found)] == found
    assert 0 < answers["silent"] < answers["refused"]
