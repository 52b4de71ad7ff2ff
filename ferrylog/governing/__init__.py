"""The governor: what a run may take of memory, processor, disk and servers, and who waits for it.

In: the settings as they are now, what workers ask (`executors.pace`), what is measured. Out: waits,
alerts' gauges, pressure on the size of write commands. Documents never pass here. Start reading at
`governor`; each limit has a file of its own, pure but for what it measures, with time as an
argument. Guide: docs/limits.md.
"""
