"""executors: the hands. Effects in, outcomes out; the only room that knows MongoDB and files.

Enters:  effects (`statemachine.effects.Effect`), each possibly for the second time.
Leaves:  outcomes (`statemachine.stimuli`); a failure of the world is one, never an exception.
Imports: statemachine, pymongo, bson, zstandard. Never journal, never a clock.
Start:   protocol.py (the promise), dispatch.py (who does what), batches.py (the data plane:
         raw BSON in, raw BSON out, nothing decoded).
"""
