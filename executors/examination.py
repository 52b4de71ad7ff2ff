"""A dump looked at by itself, in four stages, as PostgreSQL's `pg_verifybackup` does it:

1. manifest: its own checksum and form; of a mongodump directory, names and metadata
2. files: what is missing, what is there and should not be, what has another size
3. digests: SHA-256 of each chunk file; checksums of gzip and of an archive's namespaces
4. structure: heads and counts of blocks, and every byte of every document

Everything that is wrong is found, not only the first; a subset reads less in stages 3 and 4. That
a dump is whole does not say that a server takes it: only a restore does.
"""

import multiprocessing
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures import TimeoutError as StillRunning
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.synchronize import Event as SharedEvent
from pathlib import Path
from typing import Final, get_args

from executors.dumps.archive import MAGIC
from executors.dumps.beneath import Entry, entries, open_file
from executors.dumps.errors import DamagedDump, NoDump
from executors.dumps.exported import is_text
from executors.dumps.fileset import Lying
from executors.dumps.gunzip import is_gzip
from executors.dumps.manifest import MANIFEST, Facts, read_facts, read_manifest
from executors.dumps.model import Dump, NeverStops, Part, StopToken, TextFile
from executors.dumps.opening import open_dump
from executors.dumps.stored import in_store, read_stored
from executors.increments.model import INCREMENTS
from executors.look import Finding, Looked, Stage, Work, look
from executors.protocol import Stopped
from executors.storage.errors import NoObject
from executors.storage.protocol import Store
from executors.subset import WHOLE, Subset

STAGES: Final[tuple[Stage, ...]] = get_args(Stage)
MAX_FINDINGS: Final = 1000
"""Told one by one; the rest is counted."""
_DATA: Final = (".bson", ".bson.gz")
ALONE_BYTES: Final = 128 << 20
"""Below it, processes take longer to start than they save."""
_AHEAD: Final = 2
"""Files handed to each process before it asks for more."""
_LOOK_S: Final = 0.2
"""Between two looks at the stop token."""


@dataclass(frozen=True, slots=True)
class Examined:
    """One stage: to how many files it came, and how much it found."""

    stage: Stage
    files: int
    findings: int
    skipped: bool = False
    """An earlier stage left nothing to go by."""


@dataclass(frozen=True, slots=True)
class Examination:
    """What is wrong with a dump, and how much of it was looked at."""

    stages: tuple[Examined, ...]
    findings: tuple[Finding, ...]
    """By stage, file and place; the first `MAX_FINDINGS`."""
    files: int
    """That were looked into."""
    documents: int
    bytes: int
    """Of documents."""
    subset: str
    """Empty: everything."""
    notes: tuple[str, ...]

    @property
    def sound(self) -> bool:
        return not any(each.findings for each in self.stages)


def examine_dump(
    path: Path,
    *,
    subset: Subset = WHOLE,
    workers: int = 1,
    stop: StopToken | None = None,
) -> Examination:
    """Look at a dump directory, ferrylog's own or mongodump's, an export of JSONL, a file of BSON
    or JSONL, or an archive, in so many processes. Memory does not grow with the dump.

    Raises `NoDump` where there is none, `Stopped`.
    """
    report = _Report(subset)
    return _examined(_works(path, report), report, workers, stop or NeverStops())


def examine_stored(
    store: Store,
    folder: Path,
    *,
    subset: Subset = WHOLE,
    workers: int = 1,
    stop: StopToken | None = None,
) -> Examination:
    """The same of a dump in a store: its chunk files come to the `folder`, a few at a time, and go
    when they were looked at. Raises `NoDump`, `StoreError`, `OSError`, `Stopped`."""
    stop = stop or NeverStops()
    report = _Report(subset)
    read, lying = partial(read_stored, store, alone=True), partial(in_store, store)

    def fetch(work: Work) -> None:
        path = work.root / work.file
        path.parent.mkdir(exist_ok=True)
        with suppress(NoObject):  # gone since it was listed: the look finds nothing there
            store.fetch(work.file, path, stop)

    works = _chunks(folder, report, read, lying)
    return _examined(works, report, workers, stop, _Nearby(fetch, _remove))


def _examined(
    works: Sequence[Work],
    report: "_Report",
    workers: int,
    stop: StopToken,
    nearby: "_Nearby | None" = None,
) -> Examination:
    chosen = report.subset.of_files({work.file: work.bytes for work in works})
    wanted = [work for work in works if work.file in chosen]
    for looked in _looks(wanted, workers, stop, nearby or _Nearby()):
        report.hear(looked)
    return report.told()


def _remove(work: Work) -> None:
    (work.root / work.file).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _Nearby:
    """How what is looked at comes and goes; what lies in a folder is there and stays."""

    bring: Callable[[Work], None] = lambda _: None
    let_go: Callable[[Work], None] = lambda _: None


def _works(path: Path, report: "_Report") -> list[Work]:
    """Stages 1 and 2; returns what is left to be looked at."""
    if not path.exists():
        raise NoDump(str(path), "no such file or directory")
    if path.is_dir():
        if (path / MANIFEST).exists():
            return _chunks(path, report, partial(_read, path), partial(_lying, path))
        return _directory(path, report)
    path = path.resolve()
    report.came("manifest", "files")
    if is_text(path.name):
        text = TextFile(path.name, path.stat().st_size)
        return [Work(path.parent, text.name, text.bytes, text=text)]
    return [Work(path.parent, path.name, path.stat().st_size, archive=_is_archive(path))]


def _is_archive(path: Path) -> bool:
    """Else it is documents in a row. Raises `NoDump` for what is neither."""
    if path.name.endswith(_DATA):
        return False
    try:
        with open_file(path.parent, path.name) as file:
            if is_gzip(file) or file.read(len(MAGIC)) == MAGIC:
                return True
    except DamagedDump as error:
        raise NoDump(str(path), error.why) from None
    raise NoDump(str(path), "neither a .bson file nor an archive")


def _read(root: Path) -> tuple[Dump, Facts]:
    return read_manifest(root, alone=True), read_facts(root)


def _chunks(
    root: Path, report: "_Report", read: Callable[[], tuple[Dump, Facts]], lying: Lying
) -> list[Work]:
    """Of ferrylog's own layout. `root`: where its files are looked at."""
    report.came("manifest")
    try:
        dump, facts = read()
    except DamagedDump as error:
        report.hear_of("manifest", error)
        return []
    lacks = [f"{each.file}: {each.why}" for each in facts.damage]
    report.notes = (*dump.notes, *lacks)
    parts = {part.file: part for each in dump.namespaces for part in each.parts}
    report.came("files")
    report.file_set(parts, lying({file.partition("/")[0] for file in parts}))
    return [
        Work(root, part.file, part.file_bytes, part)
        for part in parts.values()
        if part.file not in report.gone
    ]


def _lying(root: Path, folders: AbstractSet[str]) -> Iterator[tuple[str, Entry]]:
    """What lies in the folder and in those folders of it, whatever it is."""
    for entry in entries(root):
        if entry.name not in folders or entry.kind != "directory":
            yield entry.name, entry
            continue
        for inner in entries(root, entry.name):
            yield f"{entry.name}/{inner.name}", inner


def _directory(root: Path, report: "_Report") -> list[Work]:
    """mongodump's, or an export. One that cannot be opened is looked at all the same, by files."""
    report.came("manifest", "files")
    try:
        dump = open_dump(root)
    except DamagedDump as error:
        report.hear_of("manifest" if error.detail.startswith("EDUMP03") else "files", error)
        return [Work(root, file, size) for file, size in _data_files(root)]
    report.notes = dump.notes
    files = [each.data for each in dump.namespaces if each.data]
    texts = [text for each in dump.namespaces for text in each.texts]
    return [
        *(Work(root, file, (root / file).stat().st_size) for file in files),
        *(Work(root, text.name, text.bytes, text=text) for text in texts),
    ]


def _data_files(root: Path) -> Iterator[tuple[str, int]]:
    folders = {entry.name for entry in entries(root) if entry.kind == "directory"}
    for name, entry in _lying(root, folders):
        if entry.kind == "file" and name.endswith(_DATA):
            yield name, entry.bytes


@dataclass(slots=True)
class _Report:
    """What is found, as it is found."""

    subset: Subset
    documents: int = 0
    bytes: int = 0
    notes: tuple[str, ...] = ()
    findings: list[Finding] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    """Chunk files that are not there."""
    _came: Counter[Stage] = field(default_factory=Counter)
    """Files to which each stage came."""
    _found: Counter[Stage] = field(default_factory=Counter)

    def came(self, *stages: Stage) -> None:
        self._came.update(stages)

    def add(self, finding: Finding) -> None:
        self._found[finding.stage] += 1
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(finding)

    def hear_of(self, stage: Stage, error: DamagedDump) -> None:
        self.add(Finding(stage, error.file, error.at, error.detail, error.why))

    def hear(self, looked: Looked) -> None:
        self.documents += looked.documents
        self.bytes += looked.bytes
        self._came["structure"] += 1
        self._came["digests"] += looked.digested
        for finding in looked.found:
            self.add(finding)
        self._found.update(looked.left)

    def file_set(self, parts: Mapping[str, Part], lying: Iterator[tuple[str, Entry]]) -> None:
        missing = dict(parts)
        for name, entry in lying:
            part = missing.pop(name, None)
            if (code_why := _of_file(name, entry, part)) is not None:
                self.add(Finding("files", name, None, *code_why))
            if part is not None and entry.kind != "file":
                self.gone.add(name)
        for name in missing:
            self.gone.add(name)
            why = "the manifest names it, and it is missing"
            self.add(Finding("files", name, None, "EDUMP063", why))
        self._came["files"] = len(parts)

    def told(self) -> Examination:
        order = {stage: n for n, stage in enumerate(STAGES)}
        stages = (
            Examined(stage, self._came[stage], self._found[stage], self._is_skipped(stage))
            for stage in STAGES
        )
        self.findings.sort(
            key=lambda each: (order[each.stage], each.file, -1 if each.at is None else each.at)
        )
        return Examination(
            tuple(stages),
            tuple(self.findings),
            self._came["structure"],
            self.documents,
            self.bytes,
            self.subset.text,
            self.notes,
        )

    def _is_skipped(self, stage: Stage) -> bool:
        return not self._came[stage] and self._found["manifest"] > 0


def _of_file(name: str, entry: Entry, part: Part | None) -> tuple[str, str] | None:
    """What is wrong with a file that lies there: code and reason."""
    if entry.kind == "other" or (part is not None and entry.kind != "file"):
        return "EDUMP010", "not a regular file"
    if part is None:
        known = name in (MANIFEST, INCREMENTS)
        return None if known else ("EDUMP065", "the manifest does not name it")
    if entry.bytes != part.file_bytes:
        return "EDUMP064", f"has {entry.bytes} bytes, and the manifest says {part.file_bytes}"
    return None


# --- in many processes -----------------------------------------------------------------------


def _looks(
    works: Sequence[Work], workers: int, stop: StopToken, nearby: _Nearby
) -> Iterator[Looked]:
    """In the order of the works, whoever does them. Raises `Stopped`.

    A look at documents is Python and holds the interpreter: threads would take turns.
    """
    workers = min(workers, len(works))
    if workers < 2 or sum(work.bytes for work in works) < ALONE_BYTES:
        for work in works:
            if stop.is_set():
                raise Stopped
            nearby.bring(work)
            yield look(work, stop)
            nearby.let_go(work)
        return
    with _pool(workers) as pool:
        pending: deque[tuple[Work, Future[Looked]]] = deque()

        def first() -> Looked:
            work, future = pending.popleft()
            looked = _result(future, stop)
            nearby.let_go(work)
            return looked

        for work in works:
            nearby.bring(work)
            pending.append((work, pool.submit(_look_there, work)))
            if len(pending) > _AHEAD * workers:
                yield first()
        while pending:
            yield first()


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("spawn")  # a fork would take locks and threads along
    ended = context.Event()
    pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(ended,))
    try:
        yield pool
    finally:
        ended.set()  # nobody waits for what is still looked at
        pool.shutdown(cancel_futures=True)


def _result(future: Future[Looked], stop: StopToken) -> Looked:
    while True:
        if stop.is_set():
            raise Stopped
        try:
            return future.result(_LOOK_S)
        except StillRunning:
            continue


def _begin(ended: SharedEvent) -> None:
    """In a new process: the one that started it hears the signals of the terminal."""
    global _ended  # noqa: PLW0603 — a process has but one
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _ended = ended


def _look_there(work: Work) -> Looked:
    assert _ended is not None
    return look(work, _ended)


_ended: SharedEvent | None = None
