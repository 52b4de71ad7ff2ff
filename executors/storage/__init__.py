"""Where files lie: a disk, or an object store, behind one small protocol.

In go bytes and drafts, out come whole durable objects. `protocol` is the promise, with one contract
suite for all stores; `local` is a folder, `objects` S3, Google and Azure; `urls` opens either.
"""
