"""`ferrylog inspect check FILE`: whether an evidence file is what was exported."""

from pathlib import Path
from typing import Literal

import typer
from pydantic import Field

from ferrylog.errors import Usage
from ferrylog.recall import rules
from ferrylog.redact import one_line
from ferrylog.views.model import Report
from journal.errors import BadEvidence
from journal.evidence import Evidence, examine, looks_like_evidence
from statemachine.state import digest


class EvidenceReport(Report):
    schema_: Literal["ferrylog.check-evidence/1"] = Field(
        "ferrylog.check-evidence/1", alias="schema"
    )
    file: str
    job: str
    events: int
    status: str
    last_hash: str
    seal: Literal["none", "fits", "not checked"]
    digest: Literal["fits", "other rules"]
    """Of the state: another ferrylog may describe the same state in other words."""
    made_by: str
    made_at: str


def check_evidence(file: Path, key: bytes | None, *, json: bool) -> None:
    """Print what was verified. Raises `BadEvidence`."""
    if file.exists() and not looks_like_evidence(file):
        raise Usage(f"{file} is no evidence file", remedy=f"of a journal: --journal {file}")
    report = _report(file, examine(file, key))
    if json:
        typer.echo(report.as_json())
        return
    seal = {
        "none": "it carries no seal",
        "fits": "the seal fits the key",
        "not checked": "it is sealed: give --key-file to check the seal",
    }
    lines = [
        f"{file}: {report.events} events of job {report.job}, {report.status}, no damage",
        f"  exported by {report.made_by} at {report.made_at}; {seal[report.seal]}",
        f"  the hash of the last event stands for all of them: {report.last_hash}",
    ]
    typer.echo("\n".join(one_line(line) for line in lines))


def _report(file: Path, found: Evidence) -> EvidenceReport:
    same = found.header.get("rules") == rules()
    if same and found.manifest.get("state_digest") != digest(found.state):
        why = "the manifest's state digest is not the one of these events"
        raise BadEvidence(file, found.events + 2, why)
    sealed = "hmac_sha256" in found.manifest
    return EvidenceReport(
        file=str(file),
        job=found.job,
        events=found.events,
        status=found.state.status,
        last_hash=found.last_hash.hex(),
        seal="fits" if found.sealed else "not checked" if sealed else "none",
        digest="fits" if same else "other rules",
        made_by=str(found.header.get("made_by", "")),
        made_at=str(found.header.get("made_at", "")),
    )
