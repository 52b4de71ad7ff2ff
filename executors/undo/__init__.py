"""Taking back what operations did to a target: what is written down before, and what is done after.

`log` is the file of an operation, `documents` its rows of documents and their undo, `recording`
what a writer writes down, `loaded` the proof that a collection holds nothing but ours,
`catalogue` the rest.
"""
