"""What is carried, what it is called on the target, which of its documents are wanted.

Renames follow mongorestore; the cases of `test_renames` that speak of `$` and of backslashes are
what its own tests promise.
"""

from collections.abc import Sequence

import bson
import pytest

from executors.boundaries import to_text
from executors.select import (
    USERS,
    BadRename,
    RefusedName,
    ServersOwn,
    TwoBecomeOne,
    carried,
    name_of,
    query_of,
    refuse_servers_own,
    renamed,
    renames_of,
    targets_of,
    unmatched,
)
from tests.executors.examples import spec

ESCAPED = (r"pr\*d\\.*", r"st\*g\\ing.*")
ODD = ("$:)*$.us(?:2)er$?$", "test.us(?:2)er$?$_$:)*$")


@pytest.mark.parametrize(
    ("pairs", "name", "becomes"),
    [
        ([("shop.orders", "shop.old")], "shop.orders", "shop.old"),
        ([("shop.orders", "shop.old")], "shop.orders2", "shop.orders2"),
        ([("shop.*", "archive.*")], "shop.a.b", "archive.a.b"),
        ([("shop.*", "archive.shop_*")], "shop.orders", "archive.shop_orders"),
        ([("*.*", "*_test.*")], "stuff.user", "stuff_test.user"),
        ([("*.*", "*_test.*")], "prod.turbo.encabulators", "prod_test.turbo.encabulators"),
        ([("$db$.user$$", "test.user$$_$db$")], "stuff.user", "test.user_stuff"),
        ([("$db$.user$$", "test.user$$_$db$")], "stuff.users", "test.users_stuff"),
        ([("$a$.$b$", "$b$.$a$")], "one.two", "two.one"),
        ([("$a$.$b$", "all.$a$_$a$")], "one.two", "all.one_one"),
        ([("shop.$a*$", "x.$a*$")], "shop.c", "x.c"),
        ([ESCAPED], r"pr*d\.users", r"st*g\ing.users"),
        ([ESCAPED], r"pr*d\.turbo.encabulators", r"st*g\ing.turbo.encabulators"),
        ([ESCAPED], r"st*g\ing.turbo.encabulators", r"st*g\ing.turbo.encabulators"),
        ([ODD], "stuff.us(?:2)er", "test.us(?:2)er_stuff"),
        ([ODD], "stuff.us(?:2)ers", "test.us(?:2)ers_stuff"),
        ([("r.cafés", "ÿœp.tāx")], "r.cafés", "ÿœp.tāx"),
        ([("a.*", "b.*"), ("b.*", "c.*")], "a.x", "b.x"),
        ([("a.*", "b.*")], "a.new\nline", "b.new\nline"),
        ([("*", "x_*")], "admin.system.users", "admin.system.users"),
    ],
)
def test_renames(pairs: list[tuple[str, str]], name: str, becomes: str) -> None:
    """Once, by the first pair that fits; what nothing fits keeps its name."""
    assert renamed(name, pairs) == becomes


def test_the_last_pair_given_counts() -> None:
    """As with mongorestore."""
    pairs = renames_of(["shop.*", "shop.orders"], ["all.*", "one.orders"])
    assert renamed("shop.orders", pairs) == "one.orders"
    assert renamed("shop.items", pairs) == "all.items"


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("shop.*", "shop.orders"),
        ("shop.orders", "shop.*"),
        ("*.*", "x.*"),
        ("$a$.$a$", "x.$a$"),
        ("$a$.c", "x.$b$"),
        ("$a.c", "x.c"),
        ("$a$.c", "x.$a"),
        ("shop.c", "shop.$x$"),
        ("shop.c", "shop.$"),
        ("$db$.us$er$table$", "test.user$table$_$db$"),
        (r"shop.\*", "shop.*"),
    ],
)
def test_sides_that_do_not_fit(source: str, target: str) -> None:
    with pytest.raises(BadRename) as refused:
        renames_of([source], [target])
    assert refused.value.code == "ENS001"
    assert repr(source) in str(refused.value)


def test_one_side_only() -> None:
    with pytest.raises(BadRename):
        renames_of(["a.b"], [])


def new_names(names: Sequence[str], *pairs: tuple[str, str], **fields: object) -> dict[str, str]:
    return targets_of(names, spec(renames=pairs, **fields))


def test_two_become_one() -> None:
    with pytest.raises(TwoBecomeOne, match=r"shop\.a and shop\.b would both become shop\.b"):
        new_names(["shop.a", "shop.b"], ("shop.a", "shop.b"))
    swapped = new_names(["x.a", "x.b"], ("x.a", "x.b"), ("x.b", "x.a"))
    assert swapped == {"x.a": "x.b", "x.b": "x.a"}


@pytest.mark.parametrize("kind", ["migrate", "restore", "dump", "verify"])
def test_users_are_laid_beside_those_of_the_target(kind: str) -> None:
    """Only by jobs that write, and whatever is renamed."""
    found = new_names(["admin.system.users", "admin.system.roles"], ("*", "x.*"), kind=kind)
    writes = kind in ("migrate", "restore")
    assert found["admin.system.users"] == ("admin.tempusers" if writes else "admin.system.users")
    assert found["admin.system.roles"] == ("admin.temproles" if writes else "admin.system.roles")


@pytest.mark.parametrize(
    "target",
    [
        *("shop", "shop.", ".c", "a b.c", "a/b.c", "a\\\\b.c", 'a"b.c', "a\0b.c", "shop.a\0b"),
        *("x" * 64 + ".c", "shop." + "x" * 251, "shop.system.views", "shop.system.buckets.c"),
        *("shop..c", "admin.system.users", "local.c", "config.c"),
        *("shop.ferrylog.kept.0123", "shop.ferrylog.staging.0123"),
    ],
)
def test_names_that_servers_refuse(target: str) -> None:
    with pytest.raises(RefusedName) as refused:
        new_names(["shop.c"], ("shop.c", target))
    assert refused.value.code == "ENS003"


@pytest.mark.parametrize("target", ["shop.system.js", "shop." + "x" * 250, "shop.a..b.", "ü.ö"])
def test_names_that_servers_take(target: str) -> None:
    assert new_names(["shop.c"], ("shop.c", target)) == {"shop.c": target}


@pytest.mark.parametrize(
    ("name", "fields", "whether"),
    [
        ("shop.orders", {}, True),
        ("shop.system.js", {}, True),
        ("shop.system.views", {}, False),
        ("shop.system.buckets.x", {"include": ("shop.*",)}, False),
        ("admin.mine", {}, True),
        ("shop.ferrylog.kept.0123456789ab", {"include": ("shop.*",)}, False),
        ("shop.ferrylog.staging.0123456789ab", {}, False),
        ("shop.ferrylog", {}, True),
        ("admin.system.version", {}, False),
        ("admin.tempusers", {}, False),
        ("admin.system.users", {}, False),
        ("admin.system.users", {"users": True}, True),
        ("admin.system.roles", {"users": True, "include": ("shop.*",)}, True),
        ("admin.system.roles", {"users": True, "exclude": ("*.roles",)}, False),
        ("admin.system.roles", {"users": True, "exclude": ("admin.*",)}, False),
        ("local.c", {}, False),
        ("config.system.sessions", {"include": ("config.*",)}, False),
        ("shop.orders", {"include": ("shop.*",), "exclude": ("*.orders",)}, False),
        ("shop.orders", {"include": ("blog.*",)}, False),
    ],
)
def test_what_is_carried(name: str, fields: dict[str, object], whether: bool) -> None:
    """P10: the server's own never, users and roles by explicit wish."""
    assert carried(name, spec(**{"include": (), "exclude": (), **fields})) is whether


@pytest.mark.parametrize(
    "include", [("local.*",), ("config.c", "local.oplog.rs"), ("admin.system.version",)]
)
def test_a_filter_that_means_only_the_servers_own(include: tuple[str, ...]) -> None:
    with pytest.raises(ServersOwn) as refused:
        refuse_servers_own(include)
    assert refused.value.code == "ESOURCE003"
    assert include[0] in str(refused.value)


@pytest.mark.parametrize("include", [(), ("*",), ("admin.*",), ("local.*", "shop.*"), ("*.x",)])
def test_a_filter_that_means_more(include: tuple[str, ...]) -> None:
    refuse_servers_own(include)


def test_the_first_query_that_fits() -> None:
    one, other = bson.encode({"a": 1}), bson.encode({"$or": [{"b": 2}]})
    queries = (("shop.orders", to_text(one)), ("shop.*", to_text(other)))
    assert query_of("shop.orders", queries) == one
    assert query_of("shop.items", queries) == other
    assert query_of("blog.posts", queries) is None


def test_no_query_is_for_users_and_roles() -> None:
    """A query for all that is carried would leave every user out."""
    for name in USERS:
        assert query_of(name, (("*", to_text(bson.encode({"a": 1}))),)) is None


@pytest.mark.parametrize(
    ("glob", "name"),
    [
        ("shop.c", "shop.c"),
        ("shop.a[*]b", "shop.a*b"),
        ("shop.[[]x]", "shop.[x]"),
        ("shop.[?][*]", "shop.?*"),
        ("shop.*", ""),
        ("shop.[*]*", ""),
        ("shop.[ab]", ""),
        ("shop.c?", ""),
    ],
)
def test_the_one_name_of_a_glob(glob: str, name: str) -> None:
    assert name_of(glob) == name


@pytest.mark.parametrize(
    ("names", "include", "exclude", "missed"),
    [
        (["shop.c"], ["shop.c"], [], []),
        (["shop.c"], ["shop.c", "shop.gone"], [], ["shop.gone"]),
        (["shop.c"], ["shop.c", "shop.a[*]"], [], ["shop.a[*]"]),
        (["shop.a*"], ["shop.a[*]"], [], []),
        (["shop.c"], ["shop.*", "blog.*"], [], []),
        (["shop.c"], ["shop.c", "shop.tmp"], ["*.tmp"], []),
        ([], ["shop.*", "blog.*"], [], ["shop.*", "blog.*"]),
        ([], [], [], []),
        (["shop.c"], [], [], []),
    ],
)
def test_each_name_that_was_asked_for_is_there(
    names: list[str], include: list[str], exclude: list[str], missed: list[str]
) -> None:
    """A glob may fit nothing beside others; a name that is written out is meant."""
    assert unmatched(names, spec(include=tuple(include), exclude=tuple(exclude))) == missed
