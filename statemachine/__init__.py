"""statemachine: the rules. What happened, what it means, what to do next.

Enters:  stimuli (outcomes of effects, requests of operators, the passing of time).
Leaves:  events to be journaled, the state they fold to, the effects that state wants.
Imports: pydantic and harmless stdlib. No clock, no chance, no file, no network.
Start:   words.py (the vocabulary), transitions.py (the diagrams), events/ (the facts),
         evolve/ (facts to state), decide/ (stimuli to facts), effects.py (state to wishes).
"""
