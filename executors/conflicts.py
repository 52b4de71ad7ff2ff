"""What can be foreseen of a job, code by code: for those who look and for those who tell."""

from collections.abc import Mapping
from typing import Final, NamedTuple

MAX_INDEXES: Final = 64
"""Of one collection, the one over `_id` among them; a limit of the server."""


class Kind(NamedTuple):
    """What one code of a conflict means."""

    what: str
    remedy: str
    comes_as: tuple[str, ...] = ()
    """Codes under which a job's journal names it when it comes true; none: no journal can tell."""
    certain: bool = False
    """As things stand, the job cannot end with everything there."""


KINDS: Final[Mapping[str, Kind]] = {
    "EPLAN001": Kind(
        "the target is not empty",
        "--drop replaces it; --on-conflict skip or overwrite merges into it",
        ("ETARGET001",),
        certain=True,
    ),
    "EPLAN002": Kind(
        "merges into what the target holds",
        "documents that differ under one _id are rejected and named; "
        "--on-conflict overwrite lets the source win",
        ("ECONFLICT001",),
    ),
    "EPLAN003": Kind(
        "what the target holds is replaced", "leave out --drop or --on-conflict overwrite"
    ),
    "EPLAN004": Kind(
        "the name means something else on the target",
        "--drop replaces it, or rename it there",
        ("ETARGET002",),
        certain=True,
    ),
    "EPLAN005": Kind(
        "the target has other options",
        "--drop replaces it; or give the target the options of the source",
        ("ETARGET002",),
        certain=True,
    ),
    "EPLAN006": Kind(
        "a capped target pushes out its oldest documents",
        "--drop, so that it begins empty",
        ("mismatch",),
    ),
    "EPLAN007": Kind(
        "a validator is not asked",
        "nothing, if the source is to be carried as it is; else afterwards "
        "collection.validate() on the target counts what breaks it",
    ),
    "EPLAN008": Kind(
        "a unique index only the target has",
        "drop it there, or expect documents with equal values to be rejected and named",
        ("EMONGO11000",),
    ),
    "EPLAN009": Kind(
        "a unique index over documents of both",
        "--drop; else what is equal in source and target is rejected, or the index is not built",
        ("EMONGO11000",),
    ),
    "EPLAN010": Kind(
        "an index cannot be built",
        "drop or rename the index on the target that is in its way",
        ("EMONGO085", "EMONGO086"),
        certain=True,
    ),
    "EPLAN011": Kind(
        "too many indexes",
        f"drop some on the target: {MAX_INDEXES} is the server's limit",
        ("EMONGO067",),
        certain=True,
    ),
    "EPLAN012": Kind(
        "documents expire by a TTL index",
        "stop expiry on the source for the time of the job (ttlMonitorEnabled=false), or expect "
        "differences that are no loss; on the target it is switched on when the rest is done",
        ("mismatch",),
    ),
    "EPLAN013": Kind(
        "documents larger than the target takes",
        "make them smaller on the source; those left are rejected and named",
        ("EMONGO10334", "EMONGO17419", "EMONGO17420", "EMONGO002"),
        certain=True,
    ),
    "EPLAN014": Kind(
        "a database of the target differs by case only",
        "drop or rename the one on the target: no server holds both",
        ("EMONGO13297",),
        certain=True,
    ),
    "EPLAN015": Kind(
        "the target's disk may be too small",
        "free space; what is stored compressed needs less than was counted",
        ("EMONGO14031",),
    ),
    "EPLAN016": Kind("could not be looked at", "grant the right to look, or look yourself"),
    "EPLAN017": Kind(
        "your own code rejects documents",
        "mend the code or the documents; those that it rejects are kept and named",
        (
            "ETRANSFORM010",
            "ETRANSFORM011",
            "ETRANSFORM012",
            "ETRANSFORM013",
            "ETRANSFORM014",
            "ETRANSFORM015",
            "ETRANSFORM016",
            "ETRANSFORM017",
            "ETRANSFORM018",
        ),
        certain=True,
    ),
    "EPLAN018": Kind(
        "a time series cannot be transformed",
        "leave it out with --ns-exclude and carry it by a job of its own",
        ("ETRANSFORM006",),
        certain=True,
    ),
}
"""Stable: stand in journals."""
