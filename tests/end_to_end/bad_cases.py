"""The table of bad dumps: how each is made, and how a restore of it must end."""

import gzip
import os
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from executors.dumps.manifest import MANIFEST
from tests.end_to_end import bad_dumps as bad
from tests.end_to_end.bad_dumps import AT, COUNT, DATA, FEW, FIRST, LEFT, SECOND, SIZE, Case, Make
from tests.executors.dumps import archives

OFTEN: Final = (
    "ends in a document",
    "length 2^31-1",
    "no NUL at the end",
    "unknown type",
    "too deep",
)
"""What is tried in every form each time; the rest in the deep lane."""


def all_of_them() -> list[Case]:
    tables = (FILES, SAID, ARCHIVED, OWN, GZIPPED)
    return [*envelopes(), *(case for table in tables for case in table), *inside(), *ids()]


def refused(name: str, make: Make, code: str, *words: str, deep: bool = False) -> Case:
    """Before anything was written."""
    return Case(name, make, 4, code, words, deep=deep)


def absent(name: str, make: Make, *words: str) -> Case:
    return Case(name, make, 2, "EDUMP001", words)


# --- envelopes ------------------------------------------------------------------------------------

_NO_END: Final = DATA[: AT + SIZE - 1] + b"\x01" + DATA[AT + SIZE :]
ENVELOPES: Final = {
    "ends in a length": (DATA + b"\x10\0", "EBSON010", len(DATA)),
    "ends in a document": (DATA[:-3], "EBSON013", len(DATA) - SIZE),
    "length 0": (bad.with_length(0), "EBSON011", AT),
    "length 3": (bad.with_length(3), "EBSON011", AT),
    "length -2": (bad.with_length(-2), "EBSON011", AT),
    "length 2^31-1": (bad.with_length(2**31 - 1), "EBSON012", AT),
    "length too great by one": (bad.with_length(SIZE + 1), "EBSON014", AT + SIZE),
    "no NUL at the end": (_NO_END, "EBSON014", AT + SIZE - 1),
    "zeros behind": (DATA + bytes(64), "EBSON011", len(DATA)),
    "another file's bytes": (b"%PDF-1.4 and so on" * 9, "EBSON012", 0),
}


def forms(data: bytes) -> dict[str, Make]:
    """The same documents in each form of a dump."""
    return {
        "plain": partial(bad.directory, data=data),
        "gzip": partial(bad.directory, data=data, zipped=True),
        "archive": partial(bad.archive, content=bad.archive_bytes(data)),
        "chunks": partial(bad.chunks, data=data),
    }


def envelopes() -> list[Case]:
    found = []
    for name, (data, code, at) in ENVELOPES.items():
        words = {
            "archive": ("E", "x.archive, offset", "shop.c", "--salvage"),
            "chunks": (code, ".flb, offset", "--salvage"),
        }
        there = (code, f"offset {at}", "shop/c.bson", "--salvage", "Nothing was written")
        for form, make in forms(data).items():
            deep = form != "plain" and name not in OFTEN
            found.append(refused(f"{name}, {form}", make, *words.get(form, there), deep=deep))
    return found


# --- gzip -----------------------------------------------------------------------------------------

GZIP: Final[dict[str, tuple[Callable[[bytes], bytes], str]]] = {
    "cut": (lambda raw: raw[:-100], "EDUMP020"),
    "trailer cut": (lambda raw: raw[:-3], "EDUMP020"),
    "CRC": (lambda raw: raw[:-8] + b"abcd" + raw[-4:], "EDUMP021"),
    "length at its end": (lambda raw: raw[:-4] + b"abcd", "EDUMP021"),
    "byte flipped": (lambda raw: raw[:2000] + bytes([raw[2000] ^ 4]) + raw[2001:], "E"),
    "garbage behind": (lambda raw: raw + b"garbage", "EDUMP022"),
    "nothing at all": (lambda _: b"", "EDUMP020"),
    "a bomb": (lambda _: bad.bomb(), "E"),
}
GZIPPED: Final = [
    refused(f"gzip: {name}", partial(bad.spoiled_gzip, spoil=spoil), code, "shop/c.bson.gz, offset")
    for name, (spoil, code) in GZIP.items()
]

# --- names and files ------------------------------------------------------------------------------


def _more(name: str, content: bytes = FEW, place: str = "shop") -> Make:
    def make(folder: Path) -> list[str]:
        words = bad.directory(folder)
        bad.put(folder / "dump" / place, name, content)
        return words

    return make


def _as(make: Callable[[Path], object], name: str = "shop/c.bson") -> Make:
    return partial(bad.in_place_of, name=name, make=make)


def _whole_directory(folder: Path) -> list[str]:
    words = bad.directory(folder)
    (folder / "dump/shop/d.bson").mkdir()
    return words


def _linked_database(folder: Path) -> list[str]:
    words = bad.directory(folder)
    (folder / "dump/zoo").rename(folder / "elsewhere")
    (folder / "dump/zoo").symlink_to(folder / "elsewhere")
    return words


def _a_file(folder: Path) -> list[str]:
    return ["--from", str(bad.put(folder, "x", b"x")), "-d", "shop", "-c", "c"]


_CUT_NAME: Final = "x" * 208 + "%24" + "a" * 27 + ".bson"
_NOT_UTF8: Final = os.fsdecode(b"\xff.bson")
_LINE: Final = "not a regular file"
FILES: Final = [
    absent("no directory", lambda folder: ["--from", str(folder / "none")], "none"),
    absent("an empty directory", lambda folder: ["--from", str(folder)]),
    absent("a file where a directory should be", _a_file, "does not have .bson extension"),
    absent("no archive", lambda folder: ["--archive", str(folder / "none")], "none"),
    absent("a directory as archive", lambda folder: ["--archive", str(folder)]),
    refused("a name of ..", _more("%2E%2E%2Fx.bson"), "EDUMP013", "shop/%2E%2E%2Fx.bson"),
    refused("a name with NUL", _more("a%00b.bson"), "EDUMP013", "a%00b"),
    refused("no escape", _more("%zz.bson"), "EDUMP012", "%zz.bson"),
    refused("escaped, no UTF-8", _more("%FF.bson"), "EDUMP012", "%FF.bson"),
    refused("no UTF-8", _more(_NOT_UTF8), "EDUMP012"),
    refused("a name of $", _more("a%24b.bson"), "EDUMP013"),
    refused("a name of nothing", _more(".bson"), "EDUMP013"),
    refused("the servers' own", _more("system.foo.bson"), "EDUMP013", "system.foo"),
    refused("namespace too long", _more("x" * 250 + ".bson", place="shop2"), "EDUMP013", "255"),
    refused("a cut name", _more(_CUT_NAME), "EDUMP016", "collectionName"),
    refused("two files for one", _more("%63.bson"), "EDUMP014", "%63.bson", "shop/c.bson"),
    refused("plain and gzip", _more("c.bson.gz", gzip.compress(FEW)), "EDUMP014", "c.bson.gz"),
    refused("another form", _more("d.bson.zst"), "EDUMP017", "d.bson.zst"),
    refused("database with a dot", _more("c.bson", place="a.b"), "EDUMP013", "a.b"),
    refused("database with a space", _more("c.bson", place="a b"), "EDUMP013", "a b"),
    refused("database too long", _more("c.bson", place="x" * 64), "EDUMP013", "63"),
    refused("a directory x.bson", _whole_directory, "EDUMP010", "shop/d.bson", "directory"),
    refused("a link", _as(bad.a_link), "EDUMP010", "shop/c.bson", _LINE),
    refused("a linked database", _linked_database, "EDUMP010", "zoo", _LINE),
    refused("a FIFO", _as(os.mkfifo), "EDUMP010", "shop/c.bson", _LINE),
    refused("metadata a FIFO", _as(os.mkfifo, "shop/c.metadata.json"), "EDUMP010", _LINE),
    refused("a socket", _as(bad.a_socket), "EDUMP010", "shop/c.bson", _LINE),
    refused("a device", _as(bad.a_device), "EDUMP010", "shop/c.bson", _LINE),
]

# --- metadata -------------------------------------------------------------------------------------

_INDEX: Final = {"v": 2, "key": {"a": 1}, "name": "a_1"}


def _indexes(*indexes: object) -> bytes:
    return bad.metadata(indexes=[*indexes])


METADATA: Final = {
    "0 bytes": (b"", "EDUMP030"),
    "no JSON": (b"{not json", "EDUMP030"),
    "cut": (bad.metadata()[:-9], "EDUMP030"),
    "no UTF-8": (b'{"collectionName": "\xff"}', "EDUMP03"),
    "an array": (b"[]", "EDUMP031"),
    "a number": (b"7", "EDUMP031"),
    "null": (b"null", "EDUMP03"),
    "options a string": (bad.metadata(options="x"), "EDUMP031"),
    "indexes an object": (bad.metadata(indexes={}), "EDUMP031"),
    "an index a string": (_indexes("x"), "EDUMP031"),
    "an index without a name": (_indexes({"key": {"a": 1}}), "EDUMP032"),
    "an index without a key": (_indexes({"name": "a"}), "EDUMP032"),
    "an index of key 0": (_indexes(_INDEX | {"key": {"a": 0}}), "EDUMP032"),
    "an index of unknown kind": (_indexes(_INDEX | {"key": {"a": "odd"}}), "EDUMP032"),
    "an index twice": (_indexes(_INDEX, _INDEX), "EDUMP032"),
    "too deep": (b'{"options": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, "EDUMP033"),
    "too long": (b'{"options": {"x": "' + b"x" * (17 << 20) + b'"}}', "EDUMP033"),
    "a view with documents": (bad.metadata(options={"viewOn": "a", "pipeline": []}), "EDUMP034"),
    "time series without options": (bad.metadata(type="timeseries"), "EDUMP034"),
}
SERVER_REFUSES: Final = {
    "options invalid": bad.metadata(options={"capped": True, "size": -1}),
    "an option unknown": bad.metadata(options={"noSuchOption": 1}),
    "a validator invalid": bad.metadata(options={"validator": {"$noSuch": 1}}),
    "an index option unknown": _indexes(_INDEX | {"noSuch": 1}),
    "a collation unknown": _indexes(_INDEX | {"collation": {"locale": "xx"}}),
}
SAID: Final = [
    refused(f"metadata: {name}", partial(bad.directory, meta=meta), code, "shop/c.")
    for name, (meta, code) in METADATA.items()
] + [
    refused(
        f"metadata: {name}, archive",
        partial(bad.archive, content=bad.archive_bytes(meta=METADATA[name][0])),
        METADATA[name][1],
        "shop.c",
        deep=True,
    )
    for name in ("no JSON", "an array", "options a string", "an index of key 0", "too deep")
]

# --- archives -------------------------------------------------------------------------------------

_ALTERED: Final = DATA.replace(b"document 0980", b"DOCUMENT 0980")
_HEAD: Final = archives.head("shop.c")
_BODY: Final = bad.WHOLE.index(_HEAD + DATA) + len(_HEAD)
"""Where the documents of `shop.c` begin."""
_SHOP: Final = b"\x05\0\0\0shop\0"
ARCHIVES: Final = {
    "empty": (b"", "EDUMP084"),
    "another file": (b"%PDF-1.4 and so on" * 9, "EDUMP080"),
    "only the magic": (bad.WHOLE[:4], "EDUMP08"),
    "cut in the prelude": (bad.WHOLE[:300], "EDUMP08"),
    "cut in a document": (bad.WHOLE[: _BODY + AT + 7], "EDUMP084"),
    "cut between documents": (bad.WHOLE[: _BODY + AT], "EDUMP084"),
    "cut between blocks": (bad.WHOLE[: _BODY + len(DATA) + 4], "EDUMP085"),
    "another version": (bad.WHOLE.replace(b"0.1\0", b"0.9\0", 1), "EDUMP081"),
    "altered in a value": (bad.archive_bytes(_ALTERED, crc=DATA), "EDUMP089"),
    "a length altered": (bad.archive_bytes(bad.with_length(7), crc=DATA), "E"),
    "a block for nobody": (bad.WHOLE.replace(_HEAD, archives.head("shop.x"), 1), "EDUMP088"),
    "a namespace of ..": (bad.WHOLE.replace(_SHOP, b"\x05\0\0\0../x\0"), "EDUMP013"),
    "garbage behind": (bad.WHOLE + b"garbage and more of it", "E"),
    "no end mark": (bad.WHOLE[:-4], "EDUMP08"),
}
ARCHIVED: Final = [
    refused(
        f"archive: {name}{', gzip' * zipped}",
        partial(bad.archive, content=content, zipped=zipped),
        code,
        "x.archive",
        deep=zipped,
    )
    for name, (content, code) in ARCHIVES.items()
    for zipped in (False, True)
]

# --- ferrylog's own layout ------------------------------------------------------------------------


def _own(name: str, spoil: Callable[[Path], object], code: str, *words: str) -> Case:
    return refused(f"chunks: {name}", partial(bad.spoiled_chunks, spoil=spoil), code, *words)


def _told(name: str, old: str, new: str, code: str, *words: str) -> Case:
    """A manifest that says something else, with the digest that it should have then."""
    return _own(f"manifest {name}", lambda root: bad.retell(root, old, new), code, *words)


def linked(root: Path) -> None:
    (root / SECOND).unlink()
    (root / SECOND).symlink_to(root / FIRST)


OWN: Final = [
    _own("a byte flipped", lambda root: bad.flip(root / SECOND, 900), "EDUMP0", SECOND),
    _own("a head flipped", lambda root: bad.flip(root / SECOND, 1), "EDUMP070", SECOND, "offset 0"),
    _own("one cut", lambda root: bad.cut(root / SECOND, 1000), "EDUMP064", SECOND, "offset 1000"),
    _own("one gone", lambda root: (root / SECOND).unlink(), "EDUMP063", SECOND, "missing"),
    _own("two swapped", bad.swap, "EDUMP064", "shop.c/"),
    _own("one a link", linked, "EDUMP010", SECOND, _LINE),
    _own("a FIFO", lambda root: os.mkfifo(root / "shop.c/2-1.flb"), "EDUMP010", "2-1.flb"),
    _own("manifest cut", lambda root: bad.cut(root / MANIFEST, 500), "EDUMP060", MANIFEST),
    _own("manifest empty", lambda root: bad.cut(root / MANIFEST, 0), "EDUMP060", MANIFEST),
    _own("manifest altered", lambda root: bad.flip(root / MANIFEST, 300), "EDUMP061", MANIFEST),
    _told("of a newer version", "dump/1", "dump/2", "EDUMP062", "dump/2", "dump/1"),
    _told("with a field too much", '"facts": {', '"facts": {"x": 1, ', "EDUMP060", MANIFEST),
    _told("that leads elsewhere", FIRST, "../x.flb", "EDUMP066", "../x.flb"),
    _told("with a file twice", FIRST, SECOND, "EDUMP067", SECOND),
    _told("with wrong sums", f'"documents": {COUNT}', '"documents": 7', "EDUMP068", "shop.c"),
    _told("with a bad name", '"zoo.z"', '"zoo.$z"', "EDUMP013", "$z"),
    absent(
        "chunks: manifest gone",
        partial(bad.spoiled_chunks, spoil=lambda root: (root / MANIFEST).unlink()),
    ),
    Case(
        "chunks: a file too much",
        partial(bad.spoiled_chunks, spoil=lambda root: bad.put(root, "notes.txt", b"x")),
        0,
        "",
        ("notes.txt",),
        LEFT,
    ),
]

# --- inside documents -----------------------------------------------------------------------------

INSIDE: Final = {
    "unknown type": (b"\x77a\0", "EBSON016", "a"),
    "string length 0": (b"\x02a\0\0\0\0\0", "EBSON019", "a"),
    "string length -1": (b"\x02a\0\xff\xff\xff\xff", "EBSON019", "a"),
    "string length too great": (b"\x02a\0\xff\xff\0\0x\0", "EBSON019", "a"),
    "string without end": (b"\x02a\0\x02\0\0\0xy", "EBSON020", "a"),
    "binary length -1": (b"\x05a\0\xff\xff\xff\xff\0", "EBSON021", "a"),
    "nested too long": (b"\x03a\0\xff\0\0\0\0", "EBSON022", "a"),
    "nested in an array": (b"\x04a\0\x0d\0\0\0\x080\0\x07\0\0\0\0", "EBSON02", "a"),
    "boolean 7": (b"\x08a\0\x07", "EBSON024", "a"),
    "too deep": (bad.nested(200), "EBSON027", "d.d.d"),
    "far too deep": (bad.nested(50_000), "EBSON027", "d.d.d"),
}
"""The element that spoils a document, the code, the path of the field."""
IDS: Final = {
    "_id an array": b"\x04_id\0\x05\0\0\0\0",
    "_id a regular expression": b"\x0b_id\0x\0\0",
    "_id twice": b"\x10_id\0\x01\0\0\0\x10_id\0\x02\0\0\0",
}
_ONE_LESS: Final = LEFT | {"shop.c": COUNT - 1}


def inside() -> list[Case]:
    """With `--objcheck` refused; without, the server refuses the one document."""
    found = []
    for name, (element, code, path) in INSIDE.items():
        spoiled = bad.instead(bad.document(bad.WHERE, element))
        for form, make in forms(spoiled).items():
            deep = form != "plain" and name not in OFTEN
            words = (code, "shop.c" if form in ("archive", "chunks") else "shop/c", "offset", path)
            checked = _with(make, "--objcheck")
            found.append(refused(f"{name}, {form}, --objcheck", checked, *words, deep=deep))
            found.append(_kept(f"{name}, {form}", make, deep=deep or name not in OFTEN))
    return found


def ids() -> list[Case]:
    """Such documents are whole: the server says what it thinks of them."""
    found = []
    for name, body in IDS.items():
        spoiled = struct.pack("<i", len(body) + 5) + body + b"\0"
        make = partial(bad.directory, data=bad.instead(spoiled))
        found.append(_kept(name, make))
        found.append(_kept(f"{name}, --objcheck", _with(make, "--objcheck")))
    return found


def _kept(name: str, make: Make, *, deep: bool = False) -> Case:
    """The spoiled document beside the journal, all others on the target."""
    return Case(name, make, 3, "rejected", ("shop.c",), _ONE_LESS, deep=deep)


def _with(make: Make, option: str) -> Make:
    return lambda folder: [*make(folder), option]
