"""A user's own operations: admin commands, each with the commands that take it back.

In: an operation of a group, as the journal holds it (`state.Operation`), and a client for each
endpoint. Out: `Operated`, `Undone`. May import what executors may. Start reading in `perform`.
"""
