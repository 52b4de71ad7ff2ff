"""One job as a file that stands for itself: every event with its hash, and a manifest.

NDJSON: a header, an event a line, the manifest last. Whoever has the file can verify it without
the journal and without ferrylog (docs/journal-format.md shows how). With a key the manifest is
sealed by an HMAC: then nobody without the key can rewrite the file and its hashes unseen.
"""

import hashlib
import hmac
import json
import os
import re
import struct
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, NoReturn

from journal.codec import GENESIS, link
from journal.disk import DISK
from journal.errors import BadEvidence, EvidenceExists, EvidenceUnreachable
from journal.rows import Row, recorded
from statemachine.errors import FerrylogError
from statemachine.evolve import evolve
from statemachine.state import State, digest
from statemachine.words import JobId, Millis

HEADER: Final = "ferrylog.evidence/1"
MANIFEST: Final = "ferrylog.evidence-manifest/1"
JOB_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
"""A folder is named after a job: an id leads nowhere else."""
MAX_LINE: Final = 64 << 20
"""Bytes: an event of a collection with very many indexes is far smaller."""
MIN_KEY: Final = 16
"""Bytes of a sealing key."""
FIELDS: Final = (
    "seq", "job", "version", "epoch", "recorded_at_ms", "kind", "entity", "data", "hash",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a whole evidence file says."""

    job: JobId
    events: int
    last_hash: bytes
    state: State
    header: Mapping[str, Any]
    manifest: Mapping[str, Any]
    sealed: bool
    """The seal was there and fits the key that was given."""


def write(
    path: Path, pages: Iterator[list[Row]], *, job: JobId, key: bytes | None, **about: str
) -> Mapping[str, Any]:
    """Write the file, durable under its name when this returns; returns its manifest.

    `pages` are checked rows; `about` goes into the header. Refuses to replace a file.
    """
    state, events, last = State(), 0, GENESIS
    with _new_file(path) as out:
        sha = hashlib.sha256()
        _line(out, sha, {"schema": HEADER, "job": job, **about})
        for rows in pages:
            for each in recorded(path, rows):
                evolve(state, each.event)
            for row in rows:
                _line(out, sha, _event(row))
            events, last = events + len(rows), rows[-1][8]
        manifest = {
            "schema": MANIFEST,
            "job": job,
            "events": events,
            "last_hash": last.hex(),
            "status": state.status,
            "state_digest": digest(state),
            "sha256": sha.hexdigest(),
        }
        if key is not None:
            manifest["hmac_sha256"] = _seal(manifest, key)
        _line(out, sha, manifest)
    return manifest


def examine(path: Path, key: bytes | None = None) -> Evidence:
    """Verify everything: lines, chain, events, transitions, manifest, seal.

    Raises `BadEvidence`, naming the line and the first bad event.
    """
    reader = Reader(path)
    state = State()
    for rows in reader.pages():
        try:
            for row, each in zip(rows, recorded(path, rows), strict=True):
                if each.event.about != row[6]:
                    why = f"event {each.version} is about {each.event.about!r}, not {row[6]!r}"
                    raise BadEvidence(path, reader.lines, why)
                evolve(state, each.event)
        except FerrylogError as error:
            raise BadEvidence(path, reader.lines, str(error)) from error
    manifest = reader.manifest
    found = {
        "job": reader.job,
        "events": reader.events,
        "last_hash": reader.last_hash.hex(),
        "status": state.status,
    }
    for name, value in found.items():
        if manifest.get(name) != value:
            why = f"the manifest says {name} {manifest.get(name)!r}, the events say {value!r}"
            raise BadEvidence(path, reader.lines, why)
    sealed = _check_seal(path, reader, key)
    return Evidence(
        reader.job, reader.events, reader.last_hash, state, reader.header, manifest, sealed
    )


class Reader:
    """Reads a file line by line; the chain is checked on the way, the rest at its end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: Mapping[str, Any] = {}
        self.manifest: Mapping[str, Any] = {}
        self.job = JobId("")
        self.events = 0
        self.lines = 0
        self.last_hash = GENESIS
        self._sha = hashlib.sha256()

    def pages(self, size: int = 1000) -> Iterator[list[Row]]:
        """The events as rows, checked. Raises `BadEvidence`."""
        try:
            with self.path.open("rb") as file:
                yield from self._pages(file, size)
        except OSError as error:
            raise EvidenceUnreachable(self.path, error.strerror or str(error)) from None

    def _pages(self, file: IO[bytes], size: int) -> Iterator[list[Row]]:
        self.header = self._object(file)
        if self.header.get("schema") != HEADER:
            self._bad(f"it begins with schema {self.header.get('schema')!r}, not {HEADER!r}")
        self.job = JobId(str(self.header.get("job")))
        if not JOB_ID.fullmatch(self.job):
            self._bad(f"{self.job!r} is no id of a job")
        rows: list[Row] = []
        while "schema" not in (line := self._object(file)):
            rows.append(self._row(line))
            if len(rows) == size:
                yield rows
                rows = []
        if rows:
            yield rows
        self.manifest = line
        if line.get("schema") != MANIFEST:
            self._bad(f"it ends with schema {line.get('schema')!r}, not {MANIFEST!r}")
        if line.get("sha256") != self._sha.hexdigest():
            self._bad("the lines do not match the manifest's checksum")
        if file.read(1):
            self._bad("something follows the manifest")

    def _object(self, file: IO[bytes]) -> dict[str, Any]:
        raw = file.readline(MAX_LINE)
        self.lines += 1
        if not raw.endswith(b"\n"):
            self._bad("the file is cut here" if len(raw) < MAX_LINE else "the line is too long")
        try:
            line = json.loads(raw)
        except (ValueError, RecursionError) as error:
            self._bad(f"no JSON: {error}")
        if not isinstance(line, dict):
            self._bad("no JSON object")
        if line.get("schema") != MANIFEST:
            self._sha.update(raw)
        elif raw != _raw(line):  # the seal covers what it says; let it say it in one way only
            self._bad("the manifest is not written as a manifest is")
        return line

    def _row(self, line: dict[str, Any]) -> Row:
        try:
            seq, job, version, epoch, at_ms, kind, entity, data, hash_ = (
                line[name] for name in FIELDS
            )
            numbers = all(type(each) is int for each in (seq, version, epoch, at_ms))
            if job != self.job or not numbers:
                self._bad("no event of this job")
            expected = link(
                self.last_hash, job.encode(), version, epoch, at_ms, kind, entity, data.encode()
            )
        except (KeyError, AttributeError, TypeError, ValueError, struct.error):
            self._bad("no event")
        self.events += 1
        if version != self.events:
            self._bad(f"version {version} where {self.events} belongs")
        if expected.hex() != hash_:
            self._bad(f"event {version} (seq {seq}, {kind} of {entity}) does not match its hash")
        self.last_hash = expected
        return (seq, job, version, epoch, Millis(at_ms), kind, entity, data.encode(), expected)

    def _bad(self, why: str) -> NoReturn:
        raise BadEvidence(self.path, self.lines, why)


def looks_like_evidence(path: Path) -> bool:
    """By its first bytes; a journal is a database."""
    try:
        with path.open("rb") as file:
            return file.read(1) == b"{"
    except OSError:
        return False


def read_key(path: Path) -> bytes:
    """A sealing key: the bytes of a file, without the newline at its end. Raises `BadEvidence`."""
    try:
        key = path.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise EvidenceUnreachable(path, error.strerror or str(error)) from None
    if len(key) < MIN_KEY:
        raise BadEvidence(path, 1, f"a key has at least {MIN_KEY} bytes; this one has {len(key)}")
    return key


def _event(row: Row) -> dict[str, Any]:
    *fields, data, hash_ = row
    values = (*fields, data.decode(), hash_.hex())
    return dict(zip(FIELDS, values, strict=True))


def _line(out: IO[bytes], sha: Any, value: Mapping[str, Any]) -> None:
    raw = _raw(value)
    sha.update(raw)
    out.write(raw)


def _raw(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _seal(manifest: Mapping[str, Any], key: bytes) -> str:
    """Over the manifest without its seal, as JSON with sorted keys and no spaces."""
    bare = {name: value for name, value in manifest.items() if name != "hmac_sha256"}
    text = json.dumps(bare, sort_keys=True, separators=(",", ":"))
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _check_seal(path: Path, reader: Reader, key: bytes | None) -> bool:
    seal = reader.manifest.get("hmac_sha256")
    if key is None:
        return False
    if seal is None:
        raise BadEvidence(path, reader.lines, "it carries no seal, and a key was given")
    if not hmac.compare_digest(str(seal), _seal(reader.manifest, key)):
        raise BadEvidence(path, reader.lines, "the seal does not fit this key")
    return True


@contextmanager
def _new_file(path: Path) -> Iterator[IO[bytes]]:
    """A new file that has its name only once it is whole and durable."""
    try:
        fd, part = tempfile.mkstemp(".part", f"{path.name}.", path.parent)
        try:
            with open(fd, "wb") as out:  # noqa: PTH123 — of a descriptor
                yield out
                out.flush()
                os.fsync(out.fileno())
            os.link(part, path)  # unlike a rename, it replaces nothing
        finally:
            os.unlink(part)  # noqa: PTH108 — a name, no path
        DISK.sync_directory(path.parent)
    except FileExistsError:
        raise EvidenceExists(path) from None
    except OSError as error:
        raise EvidenceUnreachable(path, error.strerror or str(error)) from None


def check_place(path: Path) -> None:
    """Whether evidence could be written there now. Raises `EvidenceExists` and
    `EvidenceUnreachable`."""
    if path.exists():
        raise EvidenceExists(path)
    try:
        fd, probe = tempfile.mkstemp(".part", f"{path.name}.", path.parent)
    except OSError as error:
        raise EvidenceUnreachable(path, error.strerror or str(error)) from None
    os.close(fd)
    os.unlink(probe)  # noqa: PTH108 — a name, no path
