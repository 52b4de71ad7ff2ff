"""Names of files and of collections, there and back (faults 32, 33)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executors.dumps.errors import DamagedDump
from executors.dumps.names import (
    LONGEST,
    collection_of,
    directory_name,
    file_name,
    is_cut,
    must_be_names,
    must_differ,
)


@pytest.mark.parametrize(
    ("collection", "stem"),
    [
        ("plain", "plain"),
        ("A-z_0.9~", "A-z_0.9~"),
        ("a b", "a+b"),
        ("a+b", "a%2Bb"),
        ("a/b\\c%d$e:f", "a%2Fb%5Cc%25d%24e%3Af"),
        ("é\n", "%C3%A9%0A"),
        ("!*'()", "%21%2A%27%28%29"),
        ("CON", "CON"),
    ],
)
def test_a_file_is_named_as_mongodump_names_it(collection: str, stem: str) -> None:
    assert file_name(collection) == stem
    assert collection_of(stem, "") == collection


def test_a_name_that_is_too_long_is_cut_and_found_by_its_metadata() -> None:
    """The name is one of mongo-tools' own test data."""
    long = "aVery" * 60
    stem = file_name(long)
    assert len(stem) == LONGEST
    assert stem.startswith(long[:208] + "%24")
    assert is_cut(stem)
    assert collection_of(stem, long) == long
    assert file_name("x" * LONGEST) == "x" * LONGEST


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=70))
def test_every_name_comes_back(collection: str) -> None:
    stem = file_name(collection)
    assert "/" not in stem
    assert len(stem.encode()) <= LONGEST
    assert collection_of(stem, collection if is_cut(stem) else "") == collection


def test_older_escapes_are_read() -> None:
    """`PathEscape` keeps `+` and makes `%20` of a space; the oldest mongodumps escaped nothing."""
    assert collection_of("a+b", "") == "a b"
    assert collection_of("a+b", "a+b") == "a+b"
    assert collection_of("a%20b+c", "") == "a b+c"
    assert collection_of("caf\u00e9", "") == "caf\u00e9"


@pytest.mark.parametrize(
    ("stem", "metadata_name", "detail"),
    [
        ("a%zzb", "", "EDUMP012"),
        ("a%", "", "EDUMP012"),
        ("%FF", "", "EDUMP012"),
        ("a\udcff", "", "EDUMP012"),
        (file_name("y" * 300), "", "EDUMP016"),
        (file_name("y" * 300), "z" * 300, "EDUMP016"),
    ],
)
def test_a_file_name_that_means_no_collection_is_refused(
    stem: str, metadata_name: str, detail: str
) -> None:
    with pytest.raises(DamagedDump) as refused:
        collection_of(stem, metadata_name, file="db/x.bson")
    assert refused.value.detail == detail
    assert refused.value.file == "db/x.bson"
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("database", "collection"),
    [
        *((f"a{bad}b", "c") for bad in '/\\. "$\0'),
        ("", "c"),
        ("..", "c"),
        ("x" * 64, "c"),
        ("é" * 32, "c"),
        ("\udcff", "c"),
        ("db", ""),
        ("db", "a\0b"),
        ("db", ".."),
        ("db", "a$b"),
        ("db", "system.foo"),
        ("db", "system.users"),
        ("db", "system.buckets."),
        ("db", "x" * 253),
    ],
)
def test_names_that_servers_refuse_are_refused(database: str, collection: str) -> None:
    """As mongod 6.0.5 does."""
    with pytest.raises(DamagedDump) as refused:
        must_be_names(database, collection, file="f")
    assert refused.value.detail == "EDUMP013"


@pytest.mark.parametrize(
    ("database", "collection"),
    [
        ("x" * 63, "c"),
        ("a*b|c:d<e?", "a b"),
        ("db", "x" * 252),
        ("db", "a..b."),
        ("db", "system"),
        ("db", "system.js"),
        ("db", "system.buckets.x"),
        ("admin", "system.users"),
        ("admin", "system.roles"),
        ("admin", "system.version"),
    ],
)
def test_names_that_servers_take_are_taken(database: str, collection: str) -> None:
    must_be_names(database, collection)


def test_a_hostile_server_cannot_name_a_directory_elsewhere() -> None:
    assert directory_name("shop") == "shop"
    for name in ("..", "../x", "/etc", "a/b", "a\0b", ""):
        with pytest.raises(DamagedDump):
            directory_name(name)


def test_names_that_differ_by_case_alone_are_refused_where_case_is_ignored() -> None:
    must_differ(["db/a.bson", "db/b.bson", "other/a.bson"])
    for one, other in (("db/A.bson", "db/a.bson"), ("DB/a.bson", "db/b.bson")):
        with pytest.raises(DamagedDump) as refused:
            must_differ([one, other])
        assert refused.value.detail == "EDUMP015"
