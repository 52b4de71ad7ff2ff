"""Cleaning up: what nobody needs any more is found, told, and removed.

In comes a journal and how old things must be; out comes what was freed. Whatever a job names that
has not ended stays, whatever its age or name, and events stay for ever (I44). What may be the only
copy of somebody's documents stays too, unless it is asked for by name. Start reading at `sweep`.
"""
