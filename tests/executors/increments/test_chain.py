"""Chains on disk: whatever does not follow is refused by name, before anything is applied.

Y1, I32: order, times, parents and files of every link are checked; a missing link is an error.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import bson
import pytest

from executors.batches import Block
from executors.boundaries import to_text
from executors.chunkfile import write_chunk_file
from executors.dumps.errors import DETAILS, DamagedDump
from executors.dumps.manifest import (
    MANIFEST,
    Facts,
    check_file,
    file_blocks,
    read_link,
    read_manifest,
    write_manifest,
)
from executors.dumps.model import Damage, Dumped, Link, NeverStops, Part
from executors.dumps.opening import open_dump
from executors.folder import folder_name
from executors.increments import errors
from executors.increments.chain import (
    as_far_as_whole,
    check_link,
    last_link,
    links_lying,
    links_to_apply,
    needed_by,
    open_chain,
    refuse_removal,
    time_to_link,
)
from executors.increments.errors import BrokenChain
from executors.increments.model import INCREMENTS
from executors.increments.row import erased
from executors.increments.times import restorable
from statemachine.errors import OperatorError
from statemachine.words import Key
from tests.executors.dumps.test_manifest import resigned

FACTS = Facts(
    tool_version="1.2.3",
    created="2026-01-01T00:00:00Z",
    source_id="rs0",
    consistency="snapshot",
    cluster_time="100.1",
    since="90.1",
)
A, B, T = "a" * 32, "b" * 32, "c" * 32
EMPTY = b"\5\0\0\0\0"


def rows_file(root: Path, name: str, stored: list[int], gone: list[int] | None = None) -> Part:
    rows = [bson.encode({"_id": n, "at": root.name}) for n in stored]
    rows += [erased(bson.encode({"_id": n})) for n in gone or ()]
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    written = write_chunk_file(root / name, iter([Block(b"".join(rows), len(rows))]), "zstd")
    size, file_bytes = written.bytes, written.file_bytes
    return Part(name, 0, file_bytes, len(stored), size, written.sha256, erased=len(gone or ()))


def rows_part(root: Path, namespace: str, stored: list[int], gone: list[int] | None = None) -> Part:
    return rows_file(root, f"{folder_name(namespace)}/0-1.flb", stored, gone)


def held(namespace: str, uuid: str, *parts: Part, whole: bool = False) -> Dumped:
    kind = "timeseries" if uuid == T else "collection"
    return Dumped(namespace, kind, EMPTY, (), uuid, parts=parts, whole=whole)


@dataclass
class Making:
    """Makes a chain, link by link; `change` makes the last one unlike what it should be."""

    root: Path
    digest: str = ""
    base: str = ""
    until: str = "100.1"
    number: int = 0

    def full(self, facts: Facts = FACTS) -> "Making":
        part = rows_part(self.root, "shop.a", [1, 2, 3])
        view = Dumped("shop.v", "view", bson.encode({"viewOn": "a", "pipeline": []}), ())
        self.digest = write_manifest(self.root, facts, [held("shop.a", A, part), view])
        self.base = self.digest
        return self

    def link(
        self,
        until: str,
        *,
        log: bool = False,
        namespaces: Callable[[Path], list[Dumped]] | None = None,
        facts: dict[str, Any] | None = None,
        **change: Any,
    ) -> "Making":
        self.number += 1
        folder = self.root / INCREMENTS / f"{self.number:04d}"
        folder.mkdir(parents=True)
        part = rows_part(folder, "shop.a", [self.number], [7, 8])
        link = Link(
            number=self.number,
            parent=self.digest,
            base=self.base,
            since=self.until,
            until=until,
            token=to_text(bson.encode({"_data": "82"})),
            log=(rows_file(folder, "log/0-1.flb", [1, 2]),) if log else (),
        )
        told = FACTS.model_copy(update={"cluster_time": until, "since": "", **(facts or {})})
        dumped = namespaces(folder) if namespaces else [held("shop.a", A, part)]
        self.digest = write_manifest(folder, told, dumped, replace(link, **change))
        self.until = until
        return self


@pytest.fixture
def making(tmp_path: Path) -> Making:
    root = tmp_path / "chain"
    root.mkdir()
    return Making(root).full()


@pytest.fixture
def root(making: Making) -> Path:
    """A full dump and four increments; the third keeps a log."""
    making.link("200.5").link("300.1").link("400.1", log=True).link("500.9")
    return making.root


def folder(root: Path, number: int) -> Path:
    return root / INCREMENTS / f"{number:04d}"


def refusal(root: Path, kind: type[BrokenChain], number: int) -> str:
    """What breaks the chain there; up to there it is whole, and says so."""
    with pytest.raises(kind) as caught:
        open_chain(root)
    error = caught.value
    assert (error.number, error.exit_code) == (number, 4)
    assert f"--to-increment {number - 1} restores what lies before it" in error.remedy
    assert len(open_chain(root, upto=number - 1).increments) == number - 1
    chain, broken = as_far_as_whole(root)
    assert len(chain.increments) == number - 1
    assert type(broken) is kind
    return str(error)


# --- what is whole ---------------------------------------------------------------------------


def test_a_chain_is_read_as_it_was_written(root: Path) -> None:
    """Y1: the links in order, each with what it holds."""
    chain = open_chain(root)
    assert (chain.since, len(chain.increments), chain.notes) == ("100.1", 4, ())
    assert chain.base.notes == ()
    first, second, third, _ = chain.increments
    assert (first.parent, second.parent) == (chain.digest, first.digest)
    assert (first.since, first.until, second.since) == ("100.1", "200.5", "200.5")
    (a,) = second.dump.namespaces
    assert (a.documents, a.parts[0].erased, a.whole) == (1, 2, False)
    assert second.dump.root == folder(root, 2)
    assert [part.file for part in third.log] == ["log/0-1.flb"]
    for each in chain.increments:
        assert each.notes == ()
        check_link(each, NeverStops())


def test_rows_of_what_is_gone_count_as_rows(root: Path) -> None:
    _, dump = read_link(folder(root, 1))
    (part,) = dump.namespaces[0].parts
    assert [block.documents for block, _ in file_blocks(dump.root, part, NeverStops())] == [3]
    check_file(dump.root, part, NeverStops(), objcheck=True)
    with pytest.raises(DamagedDump, match="EDUMP071"):
        check_file(dump.root, replace(part, erased=1), NeverStops(), objcheck=False)


def test_a_full_dump_alone_is_a_chain(making: Making) -> None:
    assert open_chain(making.root).increments == ()
    parent = last_link(making.root)
    assert (parent.number, parent.digest, parent.base) == (0, making.base, making.base)
    assert (parent.until, parent.token, parent.uuids) == ("100.1", "", {A})


def test_what_the_next_link_follows(root: Path, making: Making) -> None:
    """Time series are among what the chain holds, by their buckets; views are not."""
    making.link(
        "600.1",
        namespaces=lambda at: [
            held("shop.a", A),
            held("shop.b", B, rows_part(at, "shop.b", [1]), whole=True),
            held("shop.t", T, whole=True),
        ],
    )
    parent = last_link(root)
    assert (parent.number, parent.digest, parent.base) == (5, making.digest, making.base)
    assert (parent.until, parent.uuids) == ("600.1", {A, B, T})
    assert parent.token == to_text(bson.encode({"_data": "82"}))
    assert last_link(root, 2).number == 2
    making.link("700.1", namespaces=lambda at: [held("shop.b", B, rows_part(at, "shop.b", [2]))])
    assert last_link(root).uuids == {B}


def test_what_a_full_dump_lacks_is_not_held(tmp_path: Path) -> None:
    """P10: the first increment dumps it whole; then the chain has it."""
    chain = Making(tmp_path)
    chain.full(FACTS.model_copy(update={"damage": (Damage("shop.a", 0, 0, "EDUMP036", "lost"),)}))
    parent = last_link(tmp_path)
    assert (parent.uuids, parent.names) == (frozenset(), {A: "shop.a"})
    chain.link("200.1", namespaces=lambda at: [held("shop.a", A, whole=True)])
    assert last_link(tmp_path).uuids == {A}


@pytest.mark.parametrize("facts", [{"cluster_time": "", "since": ""}, {"cluster_time": ""}])
def test_where_the_first_increment_begins(tmp_path: Path, facts: dict[str, str]) -> None:
    """A fuzzy dump: before anything was read; one that does not say so is followed by nothing."""
    Making(tmp_path).full(FACTS.model_copy(update=facts))
    if "since" not in facts:
        assert last_link(tmp_path).until == "90.1"
        return
    assert b'"since"' not in (tmp_path / MANIFEST).read_bytes()
    with pytest.raises(errors.CannotFollow, match="nobody knows what changed since") as caught:
        last_link(tmp_path)
    assert (caught.value.exit_code, open_chain(tmp_path).since) == (2, "")


def test_an_increment_is_no_dump(root: Path) -> None:
    with pytest.raises(DamagedDump, match="increment 2 of a chain") as caught:
        open_dump(folder(root, 2))
    assert caught.value.detail == "EDUMP090"
    assert "the folder of the whole chain" in caught.value.remedy
    with pytest.raises(DamagedDump, match="EDUMP091"):
        read_link(root)


# --- what breaks it --------------------------------------------------------------------------


def test_a_missing_link_is_named(root: Path) -> None:
    """I32: with those that cannot be applied without it."""
    shutil.rmtree(folder(root, 2))
    said = refusal(root, errors.MissingLink, 2)
    assert said.startswith("link 2 is missing: links 3 and 4 cannot be applied")
    shutil.rmtree(folder(root, 3))
    assert "link 2 is missing: link 4 cannot be applied" in refusal(root, errors.MissingLink, 2)
    with pytest.raises(errors.MissingLink):
        last_link(root)


def test_a_link_without_a_manifest(root: Path) -> None:
    """In the midst it is missing; at the end it is being made, or was given up."""
    (folder(root, 4) / MANIFEST).unlink()
    chain = open_chain(root)
    assert (len(chain.increments), last_link(root).number) == (3, 3)
    (note,) = chain.notes
    assert note.startswith("increments/0004: being made")
    (folder(root, 2) / MANIFEST).unlink()
    assert "link 2 has no manifest: link 3 cannot" in refusal(root, errors.MissingLink, 2)


def test_strangers_among_the_links_are_told(root: Path) -> None:
    for name in ("0000", "5", "00006", "notes"):
        (root / INCREMENTS / name).mkdir()
    (note,) = open_chain(root).notes
    names = "increments/0000, increments/00006, increments/5, increments/notes"
    assert note == f"{names}: no link, ignored"


def test_no_symbolic_link_leads_out_of_a_chain(root: Path) -> None:
    (root / INCREMENTS).rename(root.parent / "elsewhere")
    (root / INCREMENTS).symlink_to(root.parent / "elsewhere")
    with pytest.raises(DamagedDump, match="EDUMP010: increments"):
        open_chain(root)


def test_links_that_changed_places(root: Path) -> None:
    second, third, aside = folder(root, 2), folder(root, 3), root.parent / "aside"
    second.rename(aside)
    third.rename(second)
    aside.rename(third)
    assert "is link 3, in the folder of link 2" in refusal(root, errors.OtherParent, 2)


BREAKS: dict[str, tuple[type[BrokenChain], dict[str, Any], str]] = {
    "number": (errors.OtherParent, {"number": 3}, "is link 3"),
    "parent": (errors.OtherParent, {"parent": "0" * 64}, "was made after another link 1 than"),
    "base": (errors.OtherParent, {"base": "0" * 64}, "belongs to another full dump"),
    "gap": (errors.OutOfOrder, {"since": "200.6"}, "begins at 200.6, and what lies before it"),
    "overlap": (errors.OutOfOrder, {"since": "200.4"}, "ends at 200.5"),
    "backwards": (errors.OutOfOrder, {"until": "200.4"}, "not after it begins"),
    "at once": (errors.OutOfOrder, {"until": "200.5"}, "not after it begins"),
    "source": (errors.OtherSource, {"facts": {"source_id": "rs1"}}, "of another source"),
    "include": (errors.OtherSource, {"facts": {"include": ("shop.*",)}}, "in include"),
    "exclude": (errors.OtherSource, {"facts": {"exclude": ("shop.b",)}}, "in exclude"),
    "queries": (errors.OtherSource, {"facts": {"queries": (("*", "{}"),)}}, "in queries"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_what_does_not_follow_is_refused(making: Making, name: str) -> None:
    """I32: parent links match, times are strictly ascending; each by name."""
    kind, change, said = BREAKS[name]
    making.link("200.5").link(**{"until": "300.1", **change}).link("400.1")
    assert said in refusal(making.root, kind, 2)


def test_times_are_in_order_as_numbers(making: Making) -> None:
    making.link("100.9").link("100.10").link("1000.1")
    assert len(open_chain(making.root).increments) == 3


def test_the_first_link_follows_the_full_dump(making: Making) -> None:
    making.link("200.1", parent="0" * 64)
    assert "another full dump than" in refusal(making.root, errors.OtherParent, 1)


def test_what_is_new_is_held_whole(making: Making) -> None:
    """Else only what changed of it would be restored."""
    making.link("200.1", namespaces=lambda at: [held("shop.b", B, rows_part(at, "shop.b", [1]))])
    said = refusal(making.root, errors.OtherParent, 1)
    assert "holds only changes of shop.b, which nothing before it holds" in said


def test_a_chain_behind_a_dump_without_a_time(tmp_path: Path) -> None:
    Making(tmp_path).full(FACTS.model_copy(update={"cluster_time": "", "since": ""})).link("200.1")
    assert "does not tell its time" in refusal(tmp_path, errors.OutOfOrder, 1)


def test_the_full_dump_was_made_anew(root: Path) -> None:
    (root / MANIFEST).unlink()
    write_manifest(root, FACTS.model_copy(update={"job": "another"}), [])
    assert "belongs to another full dump" in refusal(root, errors.OtherParent, 1)


ALTERED: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "manifest": ("EDUMP061", lambda at: flip(at / MANIFEST, 200)),
    "cut": ("EDUMP060", lambda at: cut(at / MANIFEST)),
    "full dump": ("EDUMP091", lambda at: shutil.copy(at.parents[1] / MANIFEST, at)),
    "missing": ("EDUMP063", lambda at: (at / "shop.a/0-1.flb").unlink()),
    "size": ("EDUMP064", lambda at: cut(at / "shop.a/0-1.flb")),
    "log": ("EDUMP063", lambda at: (at / "log/0-1.flb").unlink()),
    "link": ("EDUMP010", lambda at: (at.rename(at / "../../x"), at.symlink_to("../x"))),
    "token": ("EDUMP060", lambda at: resigned(at, lambda m: m["link"].update(token="{"))),
    "lookup": ("EDUMP060", lambda at: resigned(at, lambda m: m["link"].update(lookup="live"))),
    "time": ("EDUMP060", lambda at: resigned(at, lambda m: m["link"].update(until="300"))),
    "negative": ("EDUMP060", lambda at: resigned(at, lambda m: chunk_of(m).update(erased=-1))),
    "whole": ("EDUMP092", lambda at: resigned(at, lambda m: m["namespaces"][0].update(whole=True))),
    "twice": (
        "EDUMP067",
        lambda at: resigned(at, lambda m: chunk_of(m).update(file="log/0-1.flb")),
    ),
}  # fmt: skip


def flip(path: Path, at: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def chunk_of(told: Any) -> Any:
    return told["namespaces"][0]["chunks"][0]


@pytest.mark.parametrize("name", ALTERED)
def test_an_altered_link_is_refused(root: Path, name: str) -> None:
    """I24: with the file, and what lies before it can be restored."""
    detail, change = ALTERED[name]
    change(folder(root, 3))
    assert detail in DETAILS
    said = refusal(root, errors.AlteredLink, 3)
    assert said.startswith(f"link 3 is not as it was written: {detail}: ")
    assert str(folder(root, 3)) in said


def test_a_full_dump_names_nothing_that_is_gone(root: Path) -> None:
    """Its rows would be inserted as documents."""
    resigned(root, lambda told: chunk_of(told).update(erased=1))
    with pytest.raises(DamagedDump, match="EDUMP092"):
        read_manifest(root)


def test_a_changed_byte_of_a_file_is_found(root: Path) -> None:
    """Y1: before a link is applied, every byte of it is looked at; so is its log."""
    for number, name in ((2, "shop.a/0-1.flb"), (3, "log/0-1.flb")):
        flip(folder(root, number) / name, 30)
        increment = open_chain(root).increments[number - 1]
        with pytest.raises(errors.AlteredLink, match=f"link {number} .*{name}") as caught:
            check_link(increment, NeverStops())
        assert caught.value.exit_code == 4


def test_what_a_link_lacks_is_told(making: Making) -> None:
    damage = (Damage("shop.a", 0, 0, "EDUMP036", "2 of its chunks were left out"),)
    making.link("200.1", facts={"damage": damage, "notes": ("shop.v is left out",)})
    (first,) = open_chain(making.root).increments
    assert first.notes == ("shop.v is left out", "lacks shop.a: 2 of its chunks were left out")


# --- what is applied -------------------------------------------------------------------------


def test_the_links_to_apply(root: Path) -> None:
    chain = open_chain(root)
    assert links_to_apply(chain, 0) == ()
    first, second = links_to_apply(chain, 2)
    assert (first.number, first.digest, first.parent) == (
        1, chain.increments[0].digest, chain.digest,
    )  # fmt: skip
    assert (second.since, second.until, second.log) == ("200.5", "300.1", False)
    assert (second.shards, second.documents, second.erased) == (1, 1, 2)
    assert second.bytes == chain.increments[1].dump.namespaces[0].bytes
    with pytest.raises(errors.NoSuchLink, match="has 4 increments, and 5 are wanted"):
        links_to_apply(chain, 5)
    with pytest.raises(errors.NoSuchLink, match="increments up to 4, and 5 is wanted"):
        open_chain(root, upto=5)


def test_a_log_up_to_a_time(root: Path) -> None:
    chain = open_chain(root, upto=3)
    *whole, last = links_to_apply(chain, 2, "350.4")
    assert [each.number for each in whole] == [1, 2]
    assert (last.number, last.log, last.since, last.until) == (3, True, "300.1", "350.4")
    assert (last.shards, last.documents, last.erased) == (1, 2, 0)


@pytest.mark.parametrize(
    ("links", "at", "said"),
    [
        (2, "300.1", "does not lie inside link 3"),
        (2, "400.2", "does not lie inside link 3"),
        (1, "250.1", "link 2 keeps no log"),
        (4, "600.1", r"ends at 500.9 \(1970-01-01T00:08:20Z\): 600.1 is after it"),
    ],
)
def test_a_time_no_log_leads_to(root: Path, links: int, at: str, said: str) -> None:
    with pytest.raises(errors.NoSuchTime, match=said) as caught:
        links_to_apply(open_chain(root), links, at)
    assert caught.value.exit_code == 2
    assert "inspect chain" in caught.value.remedy or "--to-increment 1 is" in caught.value.remedy


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("100.1", (0, "")),
        ("100", (0, "100.4294967295")),
        ("200.5", (1, "")),
        ("200", (1, "200.4294967295")),
        ("199", (0, "199.4294967295")),
        ("300.1", (2, "")),
        ("350.7", (2, "350.7")),
        ("1970-01-01T00:05:50Z", (2, "350.4294967295")),
        ("1970-01-01T02:05:50.999+02:00", (2, "350.4294967295")),
        ("500.9", (4, "")),
    ],
)
def test_a_time_leads_to_a_link(root: Path, time: str, expected: tuple[int, str]) -> None:
    """To the second: all that happened up to its end."""
    assert time_to_link(open_chain(root), time) == expected


@pytest.mark.parametrize(
    ("time", "said"),
    [
        ("99", "begins at 100.1 .*: 99 is before it"),
        ("100.0", "begins at 100.1"),
        ("500", "ends at 500.9"),
        ("2026-11-22T14:30:00Z", "ends at 500.9"),
        ("2026-11-22T14:30:00", "no time with a zone"),
        ("yesterday", "no time with a zone"),
        ("-1", "no time with a zone"),
        ("", "no time with a zone"),
        ("9" * 40, "no time with a zone"),
        ("１００", "no time with a zone"),
        ("1960-01-01T00:00:00Z", "is before it"),
    ],
)
def test_a_time_that_leads_nowhere(root: Path, time: str, said: str) -> None:
    with pytest.raises(errors.NoSuchTime, match=said) as caught:
        time_to_link(open_chain(root), time)
    assert caught.value.remedy


def test_a_fuzzy_dump_is_of_no_single_time(tmp_path: Path) -> None:
    """Its documents may be newer than a time within the first increment; behind that all is one."""
    making = Making(tmp_path, until="90.1").full(FACTS.model_copy(update={"cluster_time": ""}))
    making.link("200.5", log=True).link("300.1", log=True)
    chain = open_chain(tmp_path)
    for time in ("90.1", "150"):
        with pytest.raises(errors.NoSuchTime, match=r"first time .* is 200\.5"):
            time_to_link(chain, time)
    with pytest.raises(errors.NoSuchTime, match="of no single time"):
        links_to_apply(chain, 0, "150.1")
    assert time_to_link(chain, "200.5") == (1, "")
    assert time_to_link(chain, "250") == (1, "250.4294967295")
    assert restorable(chain) == (("200.5", "300.1"),)


def test_the_times_that_can_be_restored(root: Path) -> None:
    assert restorable(open_chain(root)) == (
        ("100.1", "100.1"), ("200.5", "200.5"), ("300.1", "400.1"), ("500.9", "500.9"),
    )  # fmt: skip
    for first, last in restorable(open_chain(root)):
        for time in (first, last):
            assert (
                links_to_apply(open_chain(root), *time_to_link(open_chain(root), time)) is not None
            )


# --- retention -------------------------------------------------------------------------------


def test_only_the_newest_link_may_be_removed(root: Path) -> None:
    assert links_lying(root) == (1, 2, 3, 4)
    assert (needed_by(root, 2), needed_by(root, 4)) == ((3, 4), ())
    for number, what in ((2, "link 2 stays: links 3 and 4"), (0, "the full dump stays: links 1")):
        with pytest.raises(errors.LinkNeeded, match=what) as caught:
            refuse_removal(root, number)
        assert caught.value.exit_code == 2
    refuse_removal(root, 4)
    (folder(root, 3) / MANIFEST).unlink()  # a broken chain protects its links all the same
    with pytest.raises(errors.LinkNeeded):
        refuse_removal(root, 2)


def test_every_error_says_what_to_do() -> None:
    """Y9: by a code of its own."""
    kinds = [each for each in vars(errors).values() if isinstance(each, type)]
    chains = [each for each in kinds if issubclass(each, OperatorError) and "ECHAIN" in each.code]
    codes = [each.code for each in chains]
    assert len(codes) == len(set(codes)) >= 10


def test_the_manifest_reads_as_documented(root: Path) -> None:
    told = json.loads((folder(root, 3) / MANIFEST).read_bytes())
    assert list(told) == ["ferrylog", "checksum", "facts", "link", "namespaces", "sha256"]
    assert told["ferrylog"] == "increment/1"
    assert list(told["link"]) == [
        "number", "parent", "base", "since", "until", "token", "lookup", "log",
    ]  # fmt: skip
    assert chunk_of(told)["erased"] == 2
    assert "whole" not in told["namespaces"][0]


def test_manifests_of_full_dumps_stay_what_they_were(tmp_path: Path) -> None:
    """To the byte: what an older ferrylog wrote has the same digest when it is written anew."""
    facts = Facts(
        tool_version="1",
        cluster_time="5.1",
        damage=(Damage("a", 1, 2, "EDUMP036", "w"),),
        queries=(("a", "{}"),),
    )
    part = Part("a.b/0-1.flb", 0, 9, 1, 5, "0" * 64, lower=Key("1"), natural=True)
    namespaces = [
        Dumped("a.b", "collection", EMPTY, (), "ab", parts=(part,)),
        Dumped("a.a", "view", EMPTY, ()),
    ]
    assert write_manifest(tmp_path, facts, namespaces) == (
        "0fa207883cda917a0ff38cfa361281b0bee1f75840e77f18e635fd200d5dbf29"
    )
