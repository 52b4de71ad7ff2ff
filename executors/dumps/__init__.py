"""Dumps on disk and in stores: ferrylog's own and mongodump's, read without trust, written to be
read by both.

What enters: a folder, a file or a stream that somebody made, anywhere. What leaves: namespaces
with their metadata, and parts: whole documents, checked envelope by envelope, each with its
digest. Nothing in here knows a server. Start reading at `model`, then `opening`.
"""
