"""THE CHAIN: what changed since a dump, as an increment of it; and increments to a target.

Enters: a source with a change stream and the link of a chain that came last; or a chain and a
target. Leaves: a link: its manifest, and chunk files with, in order of their keys, the documents
as of one cluster time and a row for each that is gone (`row`). May import what `executors` may.

Start reading at `model`, then `capture` (which documents changed), `dumping` (what they are now),
`chain` (all links of a folder), `shaping` and `apply` (a link to a target), `follow` (without
files, round by round).
"""
