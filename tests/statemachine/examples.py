"""One example of every event kind: for golden files, round trips, illegal histories."""

from typing import Any, get_args

from statemachine.events import (
    AlertCleared,
    AlertRaised,
    AnyEvent,
    BatchResized,
    CaptureCompleted,
    CaptureProgressed,
    ChainLink,
    Difference,
    FilePart,
    FinishCompleted,
    FollowCompleted,
    IndexDropped,
    IndexSpec,
    JobSpec,
    MetadataDifference,
    OperationCompleted,
    PriorityChanged,
    RunSettings,
    SettleCompleted,
    ShapeCompleted,
    TaskEvent,
    UndoCompleted,
    UndoPlanned,
    UndoSkipped,
)
from statemachine.words import Alert, BsonText, Cause, Key, OperationId, Pool, TaskKind

SPEC = JobSpec(
    kind="migrate",
    mode="coordinated",
    source="mongodb://a:27017/",
    target="mongodb://b:27017/",
    source_id="a:1",
    target_id="b:2",
    include=("shop.*",),
    exclude=("*.tmp",),
    chunk_docs=100_000,
    chunk_bytes=67_108_864,
    compression="zstd",
    write_concern="majority",
    drop=False,
    on_conflict="stop",
    verify=True,
)
SETTINGS = RunSettings(
    dump_workers=2,
    restore_workers=2,
    max_retries=3,
    on_exhausted="pause",
    retry_base_ms=1000,
    retry_cap_ms=60_000,
    files_ahead=64,
    work_dir="",
    retry="exponential",
    jitter="equal",
    patience_ms=120_000,
    breaker_failures=10,
    breaker_ms=5_000,
    tick_ms=2_000,
    hang_ms=300_000,
    read_preference="primary",
)
FIELDS: dict[str, Any] = {
    "spec": SPEC,
    "settings": SETTINGS,
    "by": "ann@host",
    "host": "host",
    "pid": 4711,
    "version": "0.1.0",
    "epoch": 1,
    "request": 1,
    "why": "because",
    "code": "EMONGO043",
    "rejected": 1,
    "dead_letters": 0,
    "mismatched": 0,
    "task": "dump",
    "entity": "shop.orders#0",
    "attempt": 1,
    "what": "success of epoch 1",
    "unit": "shop.orders",
    "chunk": "shop.orders#0",
    "target": "shop.orders",
    "type": "collection",
    "uuid": "00" * 16,
    "options": BsonText("{}"),
    "indexes": (IndexSpec(name="n_1", unique=True, spec=BsonText('{"v":{"$numberInt":"2"}}')),),
    "documents": 10,
    "bytes": 1000,
    "lower": None,
    "upper": Key('{"$numberInt":"7"}'),
    "natural": False,
    "key": Key('{"$oid":"000000000000000000000001"}'),
    "cause": Cause.TRANSIENT,
    "delay_ms": 750,
    "jitter": 0.5,
    "not_before_ms": 1_700_000_000_750,
    "decision": "continue",
    "position": 512,
    "units": 3,
    "built": ("n_1",),
    "chunks": 4,
    "columns": "[]",
    "parts": (
        FilePart(
            name="shop.orders/d=1/0-1.parquet", documents=10, file_bytes=400, sha256="ab" * 32
        ),
    ),
    "file": "shop.orders/0-1.flb",
    "file_bytes": 400,
    "blocks": 2,
    "sha256": "ab" * 32,
    "present": 0,
    "equal": False,
    "source_documents": 10,
    "target_documents": 9,
    "source_digest": "0" * 32,
    "target_digest": "1" * 32,
    "differing": (Difference(key=Key("1"), what="missing"),),
    "immediate": False,
    "rollback": False,
    "name": "dump_workers",
    "value": 8,
    "was": 2,
    "priority": 3,
    "include": ("shop.*",),
    "verb": "pause",
    "pool": Pool.DUMP,
    "failures": 10,
    "open_ms": 5000,
    "until_ms": 1_700_000_005_000,
    "alert": Alert.SLOW,
    "limit": 0.5,
    "damaged": 0,
    "cluster_time": "",
    "users": 0,
    "roles": 0,
    "notes": (),
    "expires": False,
    "place": "dump",
    "at": 1024,
    "last_key": Key('{"$numberInt":"6"}'),
    "since": "1700000000.1",
    "until": "1700000060.5",
    "erased": 3,
    "token": BsonText('{"_data":"82"}'),
    "increment": 1,
    "links": (
        ChainLink(
            number=1,
            digest="ab" * 32,
            parent="cd" * 32,
            since="1700000000.1",
            until="1700000060.5",
            shards=4,
            documents=10,
            erased=3,
            bytes=1000,
        ),
    ),
    "acknowledged": True,
    "digest": "ab" * 32,
    "deadline_ms": 1_700_000_900_000,
    "shard": "link:1#0",
    "namespace": "shop.orders",
    "shards": 4,
    "lag_ms": 120,
    "drained": False,
    "changes": 40,
    "last": True,
    "found": "empty",
    "operations": 2,
    "operation": OperationId("shard"),
    "forward": BsonText('{"command":{"create":"a"}}'),
    "compensation": BsonText('{"command":{"drop":"a"}}'),
    "wait_for": (OperationId("create"),),
    "rollback_wait_for": (),
    "tries": 3,
    "number": 2,
    "file_at": 1024,
    "file_place": "dump",
    "file_documents": 10,
    "undos": 2,
    "to": "",
    "force": False,
    "continue_on_error": False,
    "kept": 1,
    "undone": 2,
    "skipped": 0,
    "was_documents": 1000,
    "was_bytes": 2_000_000,
    "batch_ms": 900,
}


def classes() -> tuple[type[AnyEvent], ...]:
    found: list[type[AnyEvent]] = []
    for part in get_args(AnyEvent):
        found.extend(get_args(part) or (part,))
    return tuple(found)


def kinds(cls: type[AnyEvent]) -> tuple[str, ...]:
    kinds: tuple[str, ...] = get_args(cls.model_fields["kind"].annotation)
    return kinds


def example(cls: type[AnyEvent], kind: str) -> AnyEvent:
    fields = {name: FIELDS[name] for name in cls.model_fields if name != "kind"}
    if issubclass(cls, TaskEvent):
        fields["entity"] = {
            "survey": "job",
            "create": "shop.orders",
            "census": "shop.orders",
            "plan": "shop.orders",
            "index": "shop.orders@n_1",
            "finish": "shop.orders",
            "manifest": "job",
            "capture": "job",
            "follow": "job",
            "shape": "link:1",
            "settle": "link:1",
            "apply": "link:1#0",
            "operation": "shard",
            "undo": "restore shop.orders#0",
        }.get(kind.partition("_")[0], "shop.orders#0")
    if cls in (CaptureCompleted, CaptureProgressed, FollowCompleted):
        fields["cluster_time"] = "1700000060.5"
    if cls in (ShapeCompleted, SettleCompleted, FollowCompleted, OperationCompleted, UndoCompleted):
        fields["changes"] = ("created shop.orders",)
    if cls in (FinishCompleted, SettleCompleted):
        fields["differing"] = (MetadataDifference(what="option capped", source="true", target=""),)
    if cls is IndexDropped:
        fields["entity"] = "shop.orders@n_1"
    if cls is PriorityChanged:
        fields["was"] = 0
    if cls in (AlertRaised, AlertCleared):
        fields["value"] = 0.75
    if cls is BatchResized:
        fields["cause"] = "slower"
    if cls is UndoSkipped:
        fields["entity"] = "restore shop.orders#0"
    if "task" in cls.model_fields:
        fields["task"] = TaskKind.RESTORE if cls is UndoPlanned else TaskKind.DUMP
    return cls.model_validate({"kind": kind, **fields})


def examples() -> list[AnyEvent]:
    return [example(cls, kind) for cls in classes() for kind in kinds(cls)]
