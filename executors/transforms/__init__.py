"""Code of the user's own between the source and the chunk files: each document goes through a
function, a model, or both, in processes that may die.

In go blocks as they were read; out come blocks as they will be restored, and the documents that
the code did not let through. Start reading in `stream`; `pool` knows the processes, `worker` is
what they run, `splice` keeps the bytes of what the code did not touch.
"""
