"""What hands type that know MongoDB's own tools, and what says the same here."""

from collections.abc import Mapping
from typing import Final

_URI: Final = "it belongs into the URI: mongodb://user:password@host:port/?authSource=admin"
_TLS: Final = "it belongs into the URI: ?tls=true&tlsCAFile=…&tlsCertificateKeyFile=…"
_ALWAYS: Final = "leave it out: that is always so"

INSTEAD: Final[Mapping[str, str]] = {
    "--host": _URI,
    "-h": _URI,
    "--port": _URI,
    "--username": _URI,
    "-u": _URI,
    "--password": _URI,
    "-p": _URI,
    "--authenticationDatabase": _URI,
    "--authenticationMechanism": _URI,
    "--ssl": _TLS,
    "--sslCAFile": _TLS,
    "--sslPEMKeyFile": _TLS,
    "--sslPEMKeyPassword": _TLS,
    "--sslCRLFile": _TLS,
    "--sslFIPSMode": "switch the system's own TLS library to FIPS",
    "--awsSessionToken": "it belongs into the URI: ?authMechanismProperties=AWS_SESSION_TOKEN:…",
    "--gssapiServiceName": "it belongs into the URI: ?authMechanismProperties=SERVICE_NAME:…",
    "--gssapiHostName": "it belongs into the URI: ?authMechanismProperties=SERVICE_HOST:…",
    "--tlsInsecure": "there is no such thing here: name the right CA with ?tlsCAFile=…",
    "--dir": "--from DIR",
    "--excludeCollection": "--ns-exclude 'db.collection'",
    "--excludeCollectionsWithPrefix": "--ns-exclude 'db.prefix*'",
    "--queryFile": '--query "$(cat FILE)"',
    "--numParallelCollections": "--dump-workers N, --restore-workers N",
    "-j": "--dump-workers N, --restore-workers N",
    "--forceTableScan": "leave it out: chunks are cut so that nothing is scanned twice",
    "--oplog": "--consistency snapshot",
    "--oplogReplay": "a dump of `ferrylog dump --consistency snapshot` needs no oplog",
    "--oplogLimit": "a dump of `ferrylog dump --consistency snapshot` needs no oplog",
    "--oplogFile": "a dump of `ferrylog dump --consistency snapshot` needs no oplog",
    "--viewsAsCollections": "views are dumped as views",
    "--stopOnError": "leave it out: rejected documents are named and kept, exit 3",
    "--bypassDocumentValidation": _ALWAYS,
    "--maintainInsertionOrder": "leave it out: capped collections keep theirs",
    "--preserveUUID": "leave it out: collections get UUIDs of their own",
    "--keepIndexVersion": _ALWAYS,
    "--noIndexRestore": "indexes are part of the data; drop them afterwards",
    "--noOptionsRestore": "options are part of the data; change them afterwards with collMod",
    "--fixDottedHashIndex": "leave it out: the index is built as it was",
    "--tempUsersColl": "leave it out: --users-and-roles needs none",
    "--tempRolesColl": "leave it out: --users-and-roles needs none",
    "--fields": "--projection '{\"name\": 1}'",
    "-f": "--projection '{\"name\": 1}'",
    "--fieldFile": '--projection "$(cat FILE)"',
    "--type": "--format parquet, or jsonl; CSV does not tell types",
    "--jsonFormat": "--json-form canonical, or relaxed",
    "--jsonArray": "--format jsonl is one document a line; `jq -s` makes an array of them",
    "--pretty": "--format jsonl is one document a line; `jq .` makes it pretty",
    "--noHeaderLine": "leave it out: neither format has such a line",
    "--assertExists": _ALWAYS,
    "--sort": "leave it out: files hold ranges of _id in no order between them",
    "--skip": "leave it out, or narrow --query",
    "--limit": "leave it out, or narrow --query",
    "--compressors": "it belongs into the URI: ?compressors=zstd",
}


def replacement(option: str) -> str:
    """What to write instead of an option of theirs; empty for one that nobody knows."""
    return INSTEAD.get(option, "")
