"""`restore --salvage`: every whole document of a damaged dump, and every place that is lost named.

Bad inputs 13 to 30 of the list, I24. What the target holds is compared by the byte.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

from tests.conftest import Pair
from tests.end_to_end import bad_dumps as bad
from tests.end_to_end import large_salvage
from tests.end_to_end.bad_cases import ENVELOPES, INSIDE, OFTEN, forms
from tests.end_to_end.bad_cases import linked as _linked
from tests.end_to_end.bad_dumps import AT, COUNT, CUT, DATA, SECOND, SIZE, WHERE
from tests.end_to_end.test_bad_dumps import Here, held, here, here_json, zygote

__all__ = ["here", "zygote"]
pytestmark = pytest.mark.server
RAW = CodecOptions(document_class=RawBSONDocument)


def ids_there(pair: Pair) -> list[int]:
    """Of `shop.c`, each document of which must be the one that was written."""
    rows = pair.target_client.shop.get_collection("c", RAW).find().sort("_id", 1)
    found = []
    for row in rows:
        assert bytes(row.raw) == bad.document(row["_id"])
        found.append(row["_id"])
    return found


def all_but(*lost: int) -> list[int]:
    return [n for n in range(COUNT) if n not in lost]


def salvage(here: Here, words: Sequence[str], *, places: int) -> list[tuple[str, int, str]]:
    """Exit 3; so many places are lost, as the end, `status` and the events say alike."""
    ended = here("restore", *words, "--salvage")
    assert ended.code == 3, ended.err
    status = here_json(here, "status")
    events = here("inspect", "events", "--kind", "damage_found", "--json").out.splitlines()
    told = [(each["file"], each["at"], each["code"]) for each in status["damage"]]
    data = [json.loads(line)["data"] for line in events]
    assert told == [(each["file"], each["at"], each["code"]) for each in data]
    assert status["damaged_places"] == len(told) == places, told
    for file, at, code in told:
        assert f"{Path(file).name}, offset {at:,}" in ended.err
        assert code in ended.err
    return told


LOST: dict[str, tuple[int, ...]] = {
    "ends in a length": (),
    "ends in a document": (COUNT - 1,),
    "zeros behind": (),
    "another file's bytes": tuple(range(COUNT)),
    "length too great by one": (WHERE,),
}
"""Numbers of documents; of the other kinds, the one in the middle."""


FORMS = ("plain", "gzip", "archive", "chunks")
KINDS = [
    pytest.param(
        name,
        form,
        marks=[pytest.mark.deep] if form != "plain" and name != "ends in a document" else [],
    )
    for name in ENVELOPES
    for form in FORMS
    if name != "another file's bytes" or form == "plain"
]


@pytest.mark.parametrize(("name", "form"), KINDS)
def test_damage_of_envelopes_costs_the_document_and_no_more(
    name: str, form: str, here: Here, pair: Pair, tmp_path: Path
) -> None:
    """What lies behind damage is found again, in whatever the documents lie."""
    salvage(here, forms(ENVELOPES[name][0])[form](tmp_path), places=1)
    assert ids_there(pair) == all_but(*LOST.get(name, (WHERE,)))
    assert held(pair)["shop.a"] == held(pair)["zoo.z"] == bad.GOOD


@pytest.mark.parametrize(
    "form",
    ["plain", "chunks", *(pytest.param(each, marks=pytest.mark.deep) for each in FORMS[1:3])],
)
@pytest.mark.parametrize("name", [name for name in INSIDE if name in OFTEN])
def test_damage_inside_a_document_costs_that_document(
    name: str, form: str, here: Here, pair: Pair, tmp_path: Path
) -> None:
    """It is looked at by every byte, and passed over."""
    element, code, _ = INSIDE[name]
    data = bad.instead(bad.document(WHERE, element))
    [told] = salvage(here, forms(data)[form](tmp_path), places=1)
    assert told[2] == code
    assert ids_there(pair) == all_but(WHERE)


def test_gzip_is_read_up_to_its_damage(here: Here, pair: Pair, tmp_path: Path) -> None:
    """Documents before the cut, each of them; the place is one of the unpacked bytes."""
    words = bad.spoiled_gzip(tmp_path, lambda raw: raw[: len(raw) // 2])
    [(_, at, code)] = salvage(here, words, places=1)
    there = ids_there(pair)
    assert code == "EDUMP020"
    assert there == list(range(at // SIZE))
    assert 0 < len(there) < COUNT


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
def test_an_archive_that_was_cut_is_read_up_to_there(
    zipped: bool, here: Here, pair: Pair, tmp_path: Path
) -> None:
    content = bad.WHOLE[: bad.WHOLE.index(DATA) + AT + 7]
    salvage(here, bad.archive(tmp_path, content, zipped=zipped), places=2)
    assert ids_there(pair) == list(range(WHERE))
    assert held(pair) == {"shop.a": bad.GOOD, "shop.c": WHERE, "zoo.z": 0}


# --- ferrylog's own layout ------------------------------------------------------------------------


def blocks(root: Path, name: str) -> list[int]:
    """Where the blocks of a chunk file begin, and where the last one ends."""
    raw, at = (root / name).read_bytes(), 0
    found = [0]
    while at < len(raw):
        at += 20 + int.from_bytes(raw[at + 12 : at + 16], "little")
        found.append(at)
    return found


def third_of(root: Path) -> tuple[int, int]:
    """The third block of the second chunk: it holds the documents from `CUT` + 200 on."""
    begin, end = blocks(root, SECOND)[2:4]
    return begin, end


def flip_payload(root: Path) -> None:
    begin, end = third_of(root)
    bad.flip(root / SECOND, (begin + 20 + end) // 2)


def flip_head(root: Path) -> None:
    bad.flip(root / SECOND, third_of(root)[0] + 2)


def lie_of_sizes(root: Path) -> None:
    """A payload that is said to reach into the next block."""
    bad.flip(root / SECOND, third_of(root)[0] + 12)


def cut_block(root: Path) -> None:
    bad.cut(root / SECOND, third_of(root)[1] - 3)


def overwrite(root: Path) -> None:
    begin, end = third_of(root)
    with (root / SECOND).open("r+b") as file:
        file.seek(begin)
        file.write(b"FLB1" * ((end - begin) // 4))


_THIRD = range(CUT + 200, CUT + 300)
OWN = {
    "a byte of a block": (flip_payload, _THIRD),
    "a head": (flip_head, _THIRD),
    "a size": (lie_of_sizes, _THIRD),
    "cut": (cut_block, range(CUT + 200, COUNT)),
    "overwritten": (overwrite, _THIRD),
    "empty": (lambda root: bad.cut(root / SECOND, 0), range(CUT, COUNT)),
    "gone": (lambda root: (root / SECOND).unlink(), range(CUT, COUNT)),
    "a link": (_linked, range(CUT, COUNT)),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(each, marks=() if each in ("a size", "cut", "gone") else pytest.mark.deep)
        for each in OWN
    ],
)
def test_a_damaged_chunk_file_gives_its_whole_blocks(
    name: str, here: Here, pair: Pair, tmp_path: Path
) -> None:
    """I24: a block has a checksum: no document comes back other than it was."""
    spoil, lost = OWN[name]
    [(file, _, _)] = salvage(here, bad.spoiled_chunks(tmp_path, spoil), places=1)
    assert file == SECOND
    assert ids_there(pair) == all_but(*lost)


def test_swapped_chunk_files_are_both_taken(here: Here, pair: Pair, tmp_path: Path) -> None:
    """Each is not what the manifest says, and whole."""
    salvage(here, bad.spoiled_chunks(tmp_path, bad.swap), places=2)
    assert ids_there(pair) == all_but()


@pytest.mark.parametrize("size", [20 << 20, pytest.param(1 << 30, marks=pytest.mark.deep)])
def test_a_large_file_is_salvaged_in_bounded_memory(size: int, pair: Pair, tmp_path: Path) -> None:
    """Up to its last whole document, and behind a hole in its middle."""
    told = large_salvage.play(size, pair.target.uri, tmp_path)
    print(told)
    assert (told.restored, told.damage, told.code) == (told.expected, 2, 3), told
    assert told.most_kib < 600_000
