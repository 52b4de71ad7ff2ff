"""A small server of the XML APIs of S3 and Google Cloud Storage, as we read their public
documentation. It proves that we keep to that reading and what we make of faults, and nothing about
the clouds.

Objects, conditions, ranges, lists, multipart uploads; a `Fault` may answer in its place.
"""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

Answer = tuple[int, str]
"""Status, and the code in the body; no code: nothing but the status."""
Fault = Callable[[str, str], Answer | None]
"""Of a method and a path with its query."""
NONE: Fault = lambda method, path: None  # noqa: E731


@dataclass
class XmlStore:
    """What the server holds; keys with their bucket in front."""

    port: int = 0
    buckets: set[str] = field(default_factory=lambda: {"bucket"})
    objects: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    fault: Fault = NONE
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def xml_store() -> Iterator[XmlStore]:
    store = XmlStore()

    class Bound(_Handler):
        here = store

    server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
    server.daemon_threads = True
    store.port = server.server_port
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    here: XmlStore
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # header and body are two writes

    def do_PUT(self) -> None:
        body, key, query = self._asked()
        if self._faulty(key):
            return None
        with self.here.lock:
            if "uploadId" in query:
                upload = self.here.uploads.get(query["uploadId"])
                if upload is None:
                    return self._say(404, "NoSuchUpload")
                upload[int(query["partNumber"])] = body
            elif self._only_new() and key in self.here.objects:
                return self._say(412, "PreconditionFailed")
            else:
                self.here.objects[key] = body
        return self._say(200, headers=_described(body))

    def do_GET(self) -> None:
        _, key, query = self._asked()
        if self._faulty(key):
            return None
        if "/" not in key:
            return self._list(key, query)
        data = self.here.objects.get(key)
        if data is None:
            return self._say(404, "NoSuchKey")
        headers = _described(data)
        if asked := self.headers.get("Range"):
            first, _, last = asked.removeprefix("bytes=").partition("-")
            if int(first) >= len(data):
                return self._say(416, "InvalidRange")
            end = min(int(last or len(data)), len(data) - 1)
            headers["Content-Range"] = f"bytes {first}-{end}/{len(data)}"
            return self._say(206, body=data[int(first) : end + 1], headers=headers)
        return self._say(200, body=data, headers=headers)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        _, key, query = self._asked()
        if self._faulty(key):
            return None
        with self.here.lock:
            if "uploadId" in query:
                self.here.uploads.pop(query["uploadId"], None)
                return self._say(204)
            if self.here.objects.pop(key, None) is None:
                return self._say(404, "NoSuchKey")
        return self._say(204)

    def do_POST(self) -> None:
        body, key, query = self._asked()
        if self._faulty(key):
            return None
        with self.here.lock:
            if "delete" in query:
                return self._delete(key, body)
            if "uploads" in query:
                number = f"upload-{len(self.here.asked)}"
                self.here.uploads[number] = {}
                tag = "InitiateMultipartUploadResult"
                return self._xml(tag, f"<UploadId>{number}</UploadId>")
            parts = self.here.uploads.pop(query["uploadId"], None)
            if parts is None:
                return self._say(404, "NoSuchUpload")
            self.here.objects[key] = b"".join(parts[number] for number in sorted(parts))
            etag = _described(self.here.objects[key])["ETag"]
            return self._xml("CompleteMultipartUploadResult", f"<ETag>{escape(etag)}</ETag>")

    def log_message(self, *args: Any) -> None:
        pass

    def _asked(self) -> tuple[bytes, str, dict[str, str]]:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        query = {name: each[0] for name, each in parse_qs(parts.query, True).items()}
        self.here.asked.append(f"{self.command} {self.path}")
        return body, unquote(parts.path).strip("/"), query

    def _faulty(self, key: str) -> bool:
        answer = self.here.fault(self.command, self.path)
        if answer is None and key.partition("/")[0] not in self.here.buckets:
            answer = (404, "NoSuchBucket")
        if answer is not None:
            self._say(*answer)
        return answer is not None

    def _only_new(self) -> bool:
        on_s3 = self.headers.get("If-None-Match") == "*"
        return on_s3 or self.headers.get("x-goog-if-generation-match") == "0"

    def _list(self, bucket: str, query: dict[str, str]) -> None:
        prefix, most = f"{bucket}/{query.get('prefix', '')}", 3
        names = sorted(each for each in self.here.objects if each.startswith(prefix))
        names = [each for each in names if each > query.get("continuation-token", "")]
        rows = "".join(
            f"<Contents><Key>{escape(each.partition('/')[2])}</Key>"
            f"<LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>{escape(_described(self.here.objects[each])['ETag'])}</ETag>"
            f"<Size>{len(self.here.objects[each])}</Size></Contents>"
            for each in names[:most]
        )
        more = len(names) > most
        rows += f"<IsTruncated>{str(more).lower()}</IsTruncated>"
        if more:
            rows += f"<NextContinuationToken>{escape(names[most - 1])}</NextContinuationToken>"
        self._xml("ListBucketResult", rows)

    def _delete(self, bucket: str, body: bytes) -> None:
        keys = [str(each.text) for each in ET.fromstring(body).iter() if each.tag.endswith("Key")]
        for key in keys:
            self.here.objects.pop(f"{bucket}/{key}", None)
        gone = "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
        self._xml("DeleteResult", gone)

    def _xml(self, tag: str, content: str) -> None:
        self._say(200, body=f"<{tag}>{content}</{tag}>".encode())

    def _say(
        self,
        status: int,
        code: str = "",
        *,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> None:
        if code:
            body = f"<Error><Code>{code}</Code><Message>as asked</Message></Error>".encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _described(data: bytes) -> dict[str, str]:
    digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return {
        "ETag": f'"{digest}"',
        "Last-Modified": formatdate(usegmt=True),
        "x-goog-generation": str(int(digest[:12], 16)),
    }
