"""What the options and the environment of an export say."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from executors.storage.errors import BadStoreUrl
from ferrylog.cli import environment
from ferrylog.cli import exporting as x
from ferrylog.cli import limits as limited
from ferrylog.cli.environment import joined
from ferrylog.cli.together import spread
from ferrylog.errors import Usage
from ferrylog.redact import redact
from statemachine.events import RunSettings

NAMES = (
    "MONGO_URI", "MONGO_USERNAME", "MONGO_PASSWORD", "MONGO_AUTH_SOURCE", "MONGO_DB",
    "MONGO_COLLECTION", "GCP_PROJECT_ID", "GCS_BUCKET", "GCS_PREFIX", "OUTPUT_FORMAT", "CHUNK_SIZE",
    "MAX_WORKERS", "MAX_MEMORY_USAGE_GB",
)  # fmt: skip
NOON_MS = 1_795_348_800_123
Given = Callable[..., dict[str, Any]]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Given:
    """What a command that takes all of it makes of words, names of the environment and a settings
    file."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    said: dict[str, Any] = {}

    @spread
    def command(
        context: typer.Context,
        *,
        out: x.Out = None,
        form: x.Form,
        wanted: x.Wanted,
        running: x.Running,
    ) -> None:
        """All of it."""
        named = environment.selected(context, wanted.db, wanted.collection, wanted.ns_include)
        said.update(
            out=environment.out(context, out),
            selected=named,
            docs=wanted.chunk_docs,
            form=form.spec(NOON_MS),
            settings=running.settings(None),
        )

    def run(*words: str, config: dict[str, Any] | None = None, **names: str) -> dict[str, Any]:
        for name, value in names.items():
            monkeypatch.setenv(name, value)
        app = typer.Typer()
        app.command()(command)
        done = CliRunner().invoke(app, words, default_map=config, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return said

    return run


def test_names_of_the_environment(given: Given) -> None:
    """G5: those of the pipeline's document are enough."""
    said = given(
        MONGO_DB="shop",
        MONGO_COLLECTION="order lines",
        GCS_BUCKET="lake",
        GCS_PREFIX="/raw/shop/",
        GCP_PROJECT_ID="p",
        OUTPUT_FORMAT="JSONL",
        CHUNK_SIZE="5000",
        MAX_WORKERS="7",
        MAX_MEMORY_USAGE_GB="1.5",
    )
    assert said["out"] == "gs://lake/raw/shop"
    assert said["selected"] == ("shop", ["order lines"], None)
    assert (said["docs"], said["form"].format) == (5000, "jsonl")
    settings: RunSettings = said["settings"]
    assert (settings.dump_workers, settings.worker_memory) == (7, 3 << 29)


def test_defaults(given: Given) -> None:
    """G1, G3: Parquet, chunks of 100,000, 4 workers, 8 GiB for each."""
    said = given()
    assert (said["out"], said["selected"]) == (None, (None, None, None))
    assert (said["docs"], said["form"].format, said["form"].prefix) == (100_000, "parquet", "")
    settings: RunSettings = said["settings"]
    assert (settings.dump_workers, settings.worker_memory) == (4, 8 << 30)


def test_what_is_nearer_goes_first(given: Given) -> None:
    """G5: flag, FERRYLOG_*, the pipeline's names, settings file, default."""
    file = {"out": "/file", "format": "parquet", "chunk_docs": 1, "dump_workers": 1}
    assert given(config=file)["out"] == "/file"
    assert given(config=file)["docs"] == 1
    said = given(config=file, GCS_BUCKET="b", OUTPUT_FORMAT="jsonl", CHUNK_SIZE="2")
    assert (said["out"], said["docs"], said["form"].format) == ("gs://b", 2, "jsonl")
    said = given(FERRYLOG_OUT="/env", FERRYLOG_FORMAT="parquet", FERRYLOG_CHUNK_DOCS="3")
    assert (said["out"], said["docs"], said["form"].format) == ("/env", 3, "parquet")
    said = given("--out", "/flag", "--format", "jsonl", "--chunk-docs", "4")
    assert (said["out"], said["docs"], said["form"].format) == ("/flag", 4, "jsonl")
    assert (
        given("--worker-memory", "2g", MAX_MEMORY_USAGE_GB="4")["settings"].worker_memory == 2 << 30
    )


def test_a_name_of_the_environment_is_named_when_it_is_wrong(given: Given) -> None:
    with pytest.raises(Usage, match=r"MAX_MEMORY_USAGE_GB 'lots' is no size"):
        given(MAX_MEMORY_USAGE_GB="lots")


def test_a_selection_is_not_widened_from_afar(given: Given) -> None:
    """G5: flags alone, or the environment alone, or the settings file alone."""
    names = {"MONGO_DB": "shop", "MONGO_COLLECTION": "orders"}
    file = {"db": "old", "ns_include": ["old.*"]}
    assert given(config=file)["selected"] == ("old", None, ["old.*"])
    assert given(config=file, **names)["selected"] == ("shop", ["orders"], None)
    assert given("-d", "crm", **names)["selected"] == ("crm", None, None)
    assert given("-c", "carts", **names)["selected"] == ("shop", ["carts"], None)
    assert given("--ns-include", "crm.*", **names)["selected"] == (None, None, ["crm.*"])


def test_where_an_export_of_its_day_lies(given: Given) -> None:
    """G3: what is repeated has a folder for each time."""
    assert given("--dated")["form"].prefix == "2026-11-22"
    assert given("--since", "at")["form"].prefix == "20261122T120000Z"
    assert given("--since", "at", "--dated")["form"].prefix == "2026-11-22/20261122T120000Z"


@pytest.mark.parametrize(
    "words",
    [
        ("--types", "native", "--format", "jsonl"),
        ("--json-form", "relaxed"),
        ("--projection", "name"),
        ("--partition", "at:week"),
        ("--partition", ""),
        ("--partition", "country", "--format", "jsonl"),
        ("--since", "$at"),
        ("--since", "a..b"),
        ("--worker-memory", "much"),
    ],
)
def test_what_is_refused(given: Given, words: tuple[str, ...]) -> None:
    """G5: before anything is reached."""
    with pytest.raises(Usage):
        given(*words)


def test_forms_as_a_job_keeps_them(given: Given) -> None:
    """G3."""
    form = given("--types", "native", "--partition", "at:day", "--projection", '{"n": 1}')["form"]
    assert (form.types, form.partition) == ("native", "at:day")
    assert form.projection == '{"n":{"$numberInt":"1"}}'
    form = given("--format", "jsonl", "--json-form", "relaxed", "--empty", "none")["form"]
    assert (form.json_form, form.empty, form.overwrite) == ("relaxed", "none", False)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("mongodb://h", "mongodb://a%40b:p%2Fw@h/?authSource=admin"),
        ("mongodb://h:1,i:2/", "mongodb://a%40b:p%2Fw@h:1,i:2/?authSource=admin"),
        ("mongodb://h/shop?ssl=true", "mongodb://a%40b:p%2Fw@h/shop?ssl=true&authSource=admin"),
        ("mongodb://h?ssl=true", "mongodb://a%40b:p%2Fw@h/?ssl=true&authSource=admin"),
        ("mongodb://h/?authSource=x", "mongodb://a%40b:p%2Fw@h/?authSource=x"),
        ("mongodb+srv://h/", "mongodb+srv://a%40b:p%2Fw@h/?authSource=admin"),
        ("mongodb://me:mine@h/", "mongodb://me:mine@h/"),
        ("no uri", "no uri"),
    ],
)
def test_user_and_password_join_a_uri(uri: str, expected: str) -> None:
    """G5: quoted; one that has its own keeps them."""
    assert joined(uri, "a@b", "p/w", "admin") == expected


def test_both_ways_of_authentication(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """G5: in the URI or beside it; a password is hidden from then on."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(Usage, match="no source is named"):
        environment.source_uri(None, None)
    monkeypatch.setenv("MONGO_URI", "mongodb://h:1/")
    assert environment.source_uri(None, None) == "mongodb://h:1/"
    assert environment.source_uri("mongodb://flag/", None) == "mongodb://flag/"
    assert environment.source_uri(None, None, "mongodb://journal/") == "mongodb://h:1/"
    (tmp_path / "uri").write_text("mongodb://file/\n")
    assert environment.source_uri(None, tmp_path / "uri") == "mongodb://file/"
    monkeypatch.setenv("MONGO_USERNAME", "ann")
    with pytest.raises(Usage, match="MONGO_PASSWORD is not set"):
        environment.source_uri(None, None)
    monkeypatch.setenv("MONGO_PASSWORD", "tüv/ hidden-word")
    monkeypatch.setenv("MONGO_AUTH_SOURCE", "people")
    found = environment.source_uri(None, None)
    assert found == "mongodb://ann:t%C3%BCv%2F+hidden-word@h:1/?authSource=people"
    shown = redact("it said t%C3%BCv%2F+hidden-word, tüv/ hidden-word")
    assert "hidden-word" not in shown


@pytest.mark.parametrize(
    ("out", "target"),
    [
        ("/a/b", "file:/a/b"),
        ("file:/a/b", "file:/a/b"),
        ("file:///a/b%20c", "file:/a/b c"),
        ("/a/b%20c", "file:/a/b%20c"),
        ("s3://bucket/x/", "s3://bucket/x"),
        ("gs://bucket", "gs://bucket"),
    ],
)
def test_targets_as_a_job_keeps_them(out: str, target: str) -> None:
    """G3."""
    assert x.target_of(out) == target


@pytest.mark.parametrize(
    "out",
    [
        "s3://key:hidden-word@bucket/x",
        "az://box/x?sig=hidden-word",
        "https://u:hidden-word@host/bucket",
        "ftp://hidden-word/x",
    ],
)
def test_urls_with_keys_are_refused_without_a_word(out: str) -> None:
    """A key in a URL would come to the journal."""
    with pytest.raises(BadStoreUrl) as refused:
        x.target_of(out)
    assert "hidden-word" not in f"{refused.value} {refused.value.remedy}"
    with pytest.raises(Usage):
        x.target_of("")


def test_options_of_a_group_are_options_of_the_command() -> None:
    """One declaration for several commands: in their order, with their defaults and names."""

    @dataclass(frozen=True, kw_only=True)
    class Pair:
        left: Annotated[int, typer.Option("--left", "-l")] = 1
        right: Annotated[int, typer.Option(min=2)]

    found: list[tuple[str, Pair, int]] = []

    @spread
    def command(name: str, *, pair: Pair, last: int = 3) -> None:
        """Told in --help."""
        found.append((name, pair, last))

    app = typer.Typer()
    app.command()(command)
    assert CliRunner().invoke(app, ["x", "-l", "5", "--right", "6"]).exit_code == 0
    assert found == [("x", Pair(left=5, right=6), 3)]
    assert CliRunner().invoke(app, ["x"]).exit_code == 2
    told = CliRunner().invoke(app, ["--help"]).output
    assert "Told in --help" in told
    assert told.index("--left") < told.index("--right") < told.index("--last")


def test_worker_memory_is_a_size_that_may_change() -> None:
    """G8: `set worker-memory=2g` and the option say the same."""
    assert limited.size("worker_memory", "2g") == 2 << 30
    assert "worker_memory" in limited.SIZES
