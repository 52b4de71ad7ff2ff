"""ferrylog: the application. Wires the rules, the memory and the hands, and talks to people.

Enters:  commands, settings, signals, requests from other terminals.
Leaves:  a job done, views of it, an exit code that tells the truth.
Imports: statemachine, journal, executors; typer and rich live only here.
Start:   engine.py (one turn), drive.py (turn after turn), wiring.py (who is who), cli/.
"""

__version__ = "0.1.0"
