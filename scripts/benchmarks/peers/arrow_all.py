"""What pymongoarrow does by itself: everything to one table, and that to one file.

usage: arrow_all.py URI COLLECTION FOLDER

Its types are inferred from the first documents, and what does not fit them becomes null: only for
documents that are all alike.
"""

import sys
from pathlib import Path
from typing import Any

from pyarrow import parquet
from pymongo import MongoClient
from pymongoarrow.api import find_arrow_all


def main(uri: str, name: str, folder: str) -> None:
    with MongoClient[dict[str, Any]](uri) as client:
        table = find_arrow_all(client.bench[name], {})
    parquet.write_table(table, Path(folder) / "all.parquet", compression="zstd")


if __name__ == "__main__":
    main(*sys.argv[1:])
