"""The users of an old application for a new one: `ferrylog start --transform users:migrate
--validate users:User`. The guide is docs/transforms.md."""

import hashlib
import os
import re
import unicodedata
from base64 import b32encode
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

ADMIN = os.environ.get("FORM_ADMIN_NAME", "")
"""Who is the administrator of the new application."""
COST = 2**14
"""Of one hash: 16 MiB of memory, and some hundredths of a second."""


class User(BaseModel):
    """What the new application takes."""

    username: str = Field(pattern=r"^[a-z0-9.]{1,40}-[a-z2-7]{8}$")
    email: str = Field(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$")
    password: str = Field(pattern=r"^scrypt\$")
    createdAt: datetime  # noqa: N815 — fields are called as in the documents
    isAdmin: bool  # noqa: N815


def migrate(document: dict[str, Any]) -> dict[str, Any]:
    """One user. What is missing raises, and what it raises is the reason that is told."""
    name = document["name"]
    document["username"] = username(name, document["_id"])
    document["email"] = document["email"].strip().lower()
    document["password"] = hashed(document["password"])
    document["isAdmin"] = bool(ADMIN) and name == ADMIN
    document["migrationData"] = {"legacyName": name, "source": "forms"}
    del document["name"]
    return document


def username(name: str, identity: Any) -> str:
    """Made from the document alone, so that no two processes can give the same one away, and a
    document that is carried again has it again: the name for people, the `_id` to be unique."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    readable = re.sub(r"[^a-z0-9]+", ".", plain).strip(".")[:40].strip(".") or "user"
    own = hashlib.blake2b(repr(identity).encode(), digest_size=5).digest()
    return f"{readable}-{b32encode(own).decode().lower()}"


def hashed(password: str) -> str:
    """With a salt of its own."""
    salt = os.urandom(16)
    found = hashlib.scrypt(password.encode(), salt=salt, n=COST, r=8, p=1, dklen=32)
    return f"scrypt${COST}$8$1${salt.hex()}${found.hex()}"
