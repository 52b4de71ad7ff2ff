"""Break every guard on purpose and see which test notices: `scripts/mutants`.

Our own, because mutmut 3 changes only the insides of functions (our tables are module-level
dictionaries), tells no test's name, and works on a copy of the tree.

    breaks.py    what can be broken in a module: each break is one changed field of its syntax tree
    trial.py     one break against the quick tests, in a child that has imported nothing of ours yet
    __main__.py  all of them, two at a time; the table; the survivors and their reasons
    reasons.toml why a survivor changes nothing that matters
"""
