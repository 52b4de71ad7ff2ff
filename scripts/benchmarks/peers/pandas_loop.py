"""What is written by hand today: `find`, a data frame per 100,000 documents, `to_parquet`.

usage: pandas_loop.py URI COLLECTION FOLDER
"""

import sys
from itertools import islice
from pathlib import Path
from typing import Any, Final

from pandas import DataFrame
from pymongo import MongoClient

DOCUMENTS: Final = 100_000


def main(uri: str, name: str, folder: str) -> None:
    with MongoClient[dict[str, Any]](uri) as client:
        cursor = client.bench[name].find()
        number = 0
        while documents := list(islice(cursor, DOCUMENTS)):
            frame = DataFrame(documents)
            frame["_id"] = frame["_id"].astype(str)
            frame.to_parquet(Path(folder) / f"part-{number:06}.parquet", compression="zstd")
            number += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
