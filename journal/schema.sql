-- One table: the events. Everything else is a fold of it.
CREATE TABLE events (
    seq            INTEGER PRIMARY KEY,  -- position in the file, from 1, without gaps
    job            TEXT    NOT NULL,     -- the job that the event belongs to
    version        INTEGER NOT NULL,     -- position in the job, from 1, without gaps
    epoch          INTEGER NOT NULL,     -- run of the job that appended it; 0 before the first
    recorded_at_ms INTEGER NOT NULL,     -- wall clock of the decision, for people; seq orders
    kind           TEXT    NOT NULL,     -- literal kind of the event
    entity         TEXT    NOT NULL,     -- what the event is about: job, unit, chunk, index
    data           BLOB    NOT NULL,     -- the event as JSON, without its kind
    hash           BLOB    NOT NULL,     -- SHA-256 over the job's hash before and this row but seq
    UNIQUE (job, version)
) STRICT;

CREATE INDEX events_by_entity ON events (job, entity, seq);
CREATE INDEX events_by_kind ON events (job, kind, seq);
CREATE INDEX events_by_time ON events (job, recorded_at_ms, version);

CREATE TRIGGER events_are_never_changed BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;

CREATE TRIGGER events_are_never_deleted BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
