"""The form of a file of operations. Fields that are not here are errors; what is inside of
documents, and numbers, is the server's to judge."""

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

MAX_OPERATIONS: Final = 1000
"""Of a group: all of them are planned in one commit."""
MAX_TRIES: Final = 100


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


Collection = Annotated[str, Field(min_length=1)]
EndpointName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$")]
Document = Annotated[dict[str, Any], Field(min_length=1)]


class Form(Strict):
    """A command whose fields are known; its name is its first field."""

    comment: Any = None
    writeConcern: Any = None
    maxTimeMS: Any = None


class Create(Form):
    """A collection, a view or a time series."""

    create: Collection
    capped: Any = None
    size: Any = None
    max: Any = None
    validator: Any = None
    validationLevel: Any = None
    validationAction: Any = None
    collation: Any = None
    timeseries: Any = None
    expireAfterSeconds: Any = None
    clusteredIndex: Any = None
    changeStreamPreAndPostImages: Any = None
    indexOptionDefaults: Any = None
    storageEngine: Any = None
    viewOn: Any = None
    pipeline: Any = None


class Index(Strict):
    key: Document
    name: Annotated[str, Field(min_length=1)] | None = None
    """Made of the key where none is given, as by the shell."""
    unique: Any = None
    sparse: Any = None
    hidden: Any = None
    collation: Any = None
    partialFilterExpression: Any = None
    expireAfterSeconds: Any = None
    wildcardProjection: Any = None
    weights: Any = None
    default_language: Any = None
    language_override: Any = None
    textIndexVersion: Any = None
    sphere_version: Any = Field(None, alias="2dsphereIndexVersion")
    bits: Any = None
    min: Any = None
    max: Any = None
    prepareUnique: Any = None
    storageEngine: Any = None
    v: Any = None


class CreateIndexes(Form):
    createIndexes: Collection
    indexes: Annotated[list[Index], Field(min_length=1)]
    commitQuorum: Any = None


class CollMod(Form):
    collMod: Collection
    index: Any = None
    validator: Any = None
    validationLevel: Any = None
    validationAction: Any = None
    viewOn: Any = None
    pipeline: Any = None
    expireAfterSeconds: Any = None
    timeseries: Any = None
    changeStreamPreAndPostImages: Any = None
    cappedSize: Any = None
    cappedMax: Any = None


class RenameCollection(Form):
    """Both are collections of the operation's `database`; whole names where that is admin."""

    renameCollection: Collection
    to: Collection
    dropTarget: Any = None


class ShardCollection(Form):
    shardCollection: Collection
    key: Document
    unique: Any = None
    numInitialChunks: Any = None
    collation: Any = None
    timeseries: Any = None
    presplitHashedZones: Any = None


class MoveRange(Form):
    moveRange: Collection
    toShard: str
    min: Any = None
    max: Any = None
    forceJumbo: Any = None
    secondaryThrottle: Any = None
    waitForDelete: Any = None


class MoveChunk(Form):
    moveChunk: Collection
    to: str
    find: Any = None
    bounds: Any = None
    forceJumbo: Any = None
    secondary_throttle: Any = Field(None, alias="_secondaryThrottle")
    wait_for_delete: Any = Field(None, alias="_waitForDelete")


class Change(Strict):
    q: dict[str, Any]
    u: dict[str, Any] | list[Any]
    multi: Any = None
    upsert: Any = None
    c: Any = None
    arrayFilters: Any = None
    collation: Any = None
    hint: Any = None


class Update(Form):
    update: Collection
    updates: Annotated[list[Change], Field(min_length=1)]
    ordered: Any = None
    bypassDocumentValidation: Any = None
    let: Any = None


class Insert(Form):
    insert: Collection
    documents: Annotated[list[dict[str, Any]], Field(min_length=1)]
    ordered: Any = None
    bypassDocumentValidation: Any = None


class Removal(Strict):
    q: dict[str, Any]
    limit: Any
    collation: Any = None
    hint: Any = None


class Delete(Form):
    delete: Collection
    deletes: Annotated[list[Removal], Field(min_length=1)]
    ordered: Any = None
    let: Any = None


class Drop(Form):
    drop: Collection


class DropIndexes(Form):
    dropIndexes: Collection
    index: str | list[str] | Document


class DropDatabase(Form):
    dropDatabase: Any


FORMS: Final[dict[str, type[Form]]] = {
    "create": Create,
    "createIndexes": CreateIndexes,
    "collMod": CollMod,
    "renameCollection": RenameCollection,
    "shardCollection": ShardCollection,
    "moveRange": MoveRange,
    "moveChunk": MoveChunk,
    "update": Update,
    "insert": Insert,
    "delete": Delete,
    "drop": Drop,
    "dropIndexes": DropIndexes,
    "dropDatabase": DropDatabase,
}


class Wrapped(Strict):
    """A command by the field's name, where somebody likes to say so."""

    command: "Action"


class Other(BaseModel):
    """Any other command, its name first: sent as it stands."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "minProperties": 1,
            "not": {"anyOf": [{"required": [name]} for name in (*FORMS, "command")]},
        },
    )


def _form(value: Any) -> str | None:
    """What the first field says; `<…>` is no field's name."""
    if not isinstance(value, dict) or not value:
        return None
    name = next(iter(value))
    return f"<{name}>" if name in FORMS or name == "command" else "<other>"


def _one_or_many(value: Any) -> str | None:
    return "<many>" if isinstance(value, list) else "<one>" if isinstance(value, dict) else None


Action = Annotated[
    Annotated[Create, Tag("<create>")]
    | Annotated[CreateIndexes, Tag("<createIndexes>")]
    | Annotated[CollMod, Tag("<collMod>")]
    | Annotated[RenameCollection, Tag("<renameCollection>")]
    | Annotated[ShardCollection, Tag("<shardCollection>")]
    | Annotated[MoveRange, Tag("<moveRange>")]
    | Annotated[MoveChunk, Tag("<moveChunk>")]
    | Annotated[Update, Tag("<update>")]
    | Annotated[Insert, Tag("<insert>")]
    | Annotated[Delete, Tag("<delete>")]
    | Annotated[Drop, Tag("<drop>")]
    | Annotated[DropIndexes, Tag("<dropIndexes>")]
    | Annotated[DropDatabase, Tag("<dropDatabase>")]
    | Annotated[Wrapped, Tag("<command>")]
    | Annotated[Other, Tag("<other>")],
    Discriminator(_form),
]
Actions = Annotated[
    Annotated[Action, Tag("<one>")]
    | Annotated[Annotated[list[Action], Field(min_length=1)], Tag("<many>")],
    Discriminator(_one_or_many),
]


class Predicate(Strict):
    """A command that only reads, and fields of its reply as they are to be."""

    command: Document
    expect: Document
    database: str | None = None
    """Default: that of the operation."""


class Check(Strict):
    """What tells after a crash."""

    applied: Predicate | None = None
    """Holds when the forward command is carried out."""
    undone: Predicate | None = None
    """Holds when the compensation is."""


class Step(Strict):
    """One operation."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    on: str | None = None
    """An endpoint; default: the target."""
    database: str = "admin"
    forward: Action
    compensation: Actions
    check: Check | None = None
    wait_for: list[str] | None = None
    """Operations that come first; default: the one before it in the file."""
    rollback_wait_for: list[str] = []
    """Operations that are undone first."""
    tries: Annotated[int, Field(ge=1, le=MAX_TRIES)] = 3
    """Attempts that may fail."""


class Group(Strict):
    """Operations that are applied together, or taken back together."""

    title: Annotated[str, Field(min_length=1, max_length=200)]
    endpoints: dict[EndpointName, str | None] = {}
    """Where operations run, by name: URIs without credentials, or nothing where only the command
    line tells."""
    continue_on_error: bool = False
    """A failed operation stops only those that wait for it."""
    operations: Annotated[list[Step], Field(min_length=1, max_length=MAX_OPERATIONS)]
