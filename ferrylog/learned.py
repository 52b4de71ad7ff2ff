"""What earlier jobs of a journal found out about the targets they wrote to."""

from itertools import islice
from typing import Final

from ferrylog.jobs import spec_of
from journal.sqlite import SqliteJournal
from statemachine.batching import Size
from statemachine.events import JobSpec
from statemachine.words import JobId

LEARNED_FROM: Final = 10
"""Jobs with the same target, the newest."""
LOOKED_AT: Final = 100
"""Jobs of any target among which those are looked for, the newest."""


def learned_sizes(journal: SqliteJournal, job: JobId, spec: JobSpec) -> dict[str, Size]:
    """The size that write commands had at last, for each namespace of the job's target that an
    earlier job wrote to: lookups in the journal's indexes, whatever it holds. Nothing here is
    checked against its hash: a wrong size is one that is soon changed."""
    others = (each for each in reversed(journal.jobs()) if each != job)
    looked_at = islice(others, LOOKED_AT)
    alike = (each for each in looked_at if spec_of(journal, each).target_id == spec.target_id)
    found: dict[str, Size] = {}
    for each in islice(alike, LEARNED_FROM):
        found = _sizes(journal, each) | found
    return found


def _sizes(journal: SqliteJournal, job: JobId) -> dict[str, Size]:
    rows = journal.query(
        "SELECT r.data ->> '$.target', b.data ->> '$.documents', b.data ->> '$.bytes', max(b.seq) "
        "FROM (SELECT entity, seq, CAST(data AS TEXT) AS data FROM events"
        "  INDEXED BY events_by_kind WHERE job = ?1 AND kind = 'batch_resized') AS b "
        "JOIN (SELECT entity, CAST(data AS TEXT) AS data FROM events"
        "  INDEXED BY events_by_kind WHERE job = ?1 AND kind = 'unit_registered') AS r "
        "ON r.entity = b.entity GROUP BY b.entity",
        (job,),
    )
    return {str(target): Size(int(documents), int(size)) for target, documents, size, _ in rows}
