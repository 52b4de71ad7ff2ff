"""Documents to files that other programs read: Parquet, and JSON lines.

In go raw BSON blocks of a chunk, out come whole objects of a store, and at the end a manifest and a
mark of success. `task` is the export of one chunk; `census` decides the columns of a collection on
the server, before the first file; `columns` is what they are. `processes` convert: `shred` to
columns, of which `parquet` makes files, `jsonl` to lines.
"""
