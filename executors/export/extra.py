"""Whether what Parquet needs is installed: it is an extra, and large."""

import importlib.util

from executors.export.errors import NoPyarrow


def require() -> None:
    """Before anything is imported that imports pyarrow. Raises `NoPyarrow`."""
    if importlib.util.find_spec("pyarrow") is None:
        raise NoPyarrow
