"""journal: the memory. What happened, in order, on disk, for ever.

Enters:  events with the time they were decided, and the position expected.
Leaves:  the same events in the same order; requests that other terminals left.
Imports: statemachine (events, words, errors), apsw. Never executors, never pymongo.
Start:   protocol.py (the promise), sqlite.py (how it is kept), schema.sql (its shape),
         codec.py (bytes and hashes), lease.py, tip.py, inbox.py (the files beside it);
         audit.py (questions), entities.py (what an event is about), overview.py (what there
         is), forensics.py (damage).
"""
