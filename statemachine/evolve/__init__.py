"""Facts to state: `evolve` has no opinion, and an arm for every event.

An arm changes the state in place and is chosen by the event's class alone: a history of
millions of events is folded at every start, so nothing here copies or searches.
"""

from statemachine.evolve.arms import ARMS, evolve, fold

__all__ = ["ARMS", "evolve", "fold"]
