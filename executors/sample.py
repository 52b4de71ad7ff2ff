"""A real data set that needs no download: the Unicode character database of Python itself."""

import sys
import unicodedata
from collections.abc import Iterator
from itertools import islice
from typing import Any

from pymongo import MongoClient

Document = dict[str, Any]


def load_characters(uri: str) -> dict[str, int]:
    """Fill database `unicode`: characters, their names as words, blocks of 256, a view, a
    validator, several indexes. Returns documents by collection."""
    with MongoClient[Document](uri) as client:
        db = client.get_database("unicode")
        db.create_collection(
            "characters",
            validator={"$jsonSchema": {"required": ["_id", "category"], "bsonType": "object"}},
        )
        _fill(db.get_collection("characters"), _characters())
        db.characters.create_index("category")
        db.characters.create_index([("bidirectional", 1), ("combining", -1)], name="direction")
        db.characters.create_index("name", unique=True, sparse=True)
        _fill(db.get_collection("words"), _words())
        db.words.create_index([("characters", 1)], name="by_character")
        _fill(db.get_collection("rows"), _rows())
        db.create_collection(
            "letters", viewOn="characters", pipeline=[{"$match": {"category": {"$regex": "^L"}}}]
        )
        names = ("characters", "words", "rows")
        return {name: db.get_collection(name).count_documents({}) for name in names}


def _fill(collection: Any, documents: Iterator[Document]) -> None:
    while batch := list(islice(documents, 5000)):
        collection.insert_many(batch, ordered=False)


def _characters() -> Iterator[Document]:
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        category = unicodedata.category(character)
        if category in ("Cn", "Cs", "Co"):  # unassigned, surrogates, private use
            continue
        document: Document = {
            "_id": code,
            "category": category,
            "bidirectional": unicodedata.bidirectional(character),
            "combining": unicodedata.combining(character),
            "mirrored": bool(unicodedata.mirrored(character)),
            "decomposition": unicodedata.decomposition(character).split(),
        }
        if name := unicodedata.name(character, ""):
            document["name"] = name
        if (value := unicodedata.numeric(character, None)) is not None:
            document["numeric"] = value
        yield document


def _words() -> Iterator[Document]:
    """Each word of a character's name, with the characters that bear it."""
    bearers: dict[str, list[int]] = {}
    for document in _characters():
        for word in str(document.get("name", "")).split():
            bearers.setdefault(word, []).append(document["_id"])
    for word, characters in bearers.items():
        yield {"_id": word, "count": len(characters), "characters": characters[:1000]}


def _rows() -> Iterator[Document]:
    """Blocks of 256 code points, under an `_id` that is a document."""
    for start in range(0, sys.maxunicode + 1, 256):
        assigned = [
            code for code in range(start, start + 256) if unicodedata.category(chr(code)) != "Cn"
        ]
        if assigned:
            yield {"_id": {"plane": start >> 16, "row": start >> 8 & 0xFF}, "assigned": assigned}
