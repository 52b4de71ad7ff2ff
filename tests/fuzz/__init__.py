"""Bytes that nobody wrote on purpose, for what reads files of unknown origin: `scripts/fuzz`."""
