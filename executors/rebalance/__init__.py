"""Moving key ranges of a collection between endpoints that share it, each range as one group.

In comes a plan (`planning`): which range goes from which endpoint to which. Out go the operations
of a group per range (`model`), each with its compensation, and who carries them out (`actions`):
copy, verify, switch the placement file (`placement`), delete at the old place. May import what
`executors` may. Start reading at `model`.
"""
