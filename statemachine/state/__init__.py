"""The state: what a future decision needs, and nothing else.

A job's state is the fold of its events (`evolve`). Settled chunks leave the maps and become
counters, so its size follows the open work, not the history. A state and its parts are owned
by one fold and changed in place: effects carry copies.
"""

from statemachine.state.entities import (
    NOTHING,
    UNAPPLIED,
    Applied,
    Breaker,
    Chunk,
    ChunkFile,
    Done,
    Link,
    Operation,
    Part,
    Shard,
    Task,
    Undo,
    Unit,
)
from statemachine.state.job import (
    RESTING,
    State,
)
from statemachine.state.plain import (
    SCALARS,
    digest,
    plain,
    plain_undo,
)
from statemachine.state.stages import (
    DUMP,
    STAGES,
    STORES,
    is_dump,
    is_stored,
    is_whole,
    keeps_files,
    reads_dump,
    restores_chain,
    stages_of,
    takes_census,
    transforms,
)

__all__ = [
    "DUMP",
    "NOTHING",
    "RESTING",
    "SCALARS",
    "STAGES",
    "STORES",
    "UNAPPLIED",
    "Applied",
    "Breaker",
    "Chunk",
    "ChunkFile",
    "Done",
    "Link",
    "Operation",
    "Part",
    "Shard",
    "State",
    "Task",
    "Undo",
    "Unit",
    "digest",
    "is_dump",
    "is_stored",
    "is_whole",
    "keeps_files",
    "plain",
    "plain_undo",
    "reads_dump",
    "restores_chain",
    "stages_of",
    "takes_census",
    "transforms",
]
