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
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

Answer = tuple[int, str]
"""Status, and the code in the body; no code: nothing but the status."""
Fault = Callable[[str, str], Answer | None]
"""Of a method and a path with its query."""
NONE: Fault = lambda method, path: None  # noqa: E731
PAGE: Final = 3
"""Objects of one answer to a list: few, so that a test needs the next one."""


@dataclass
class XmlStore:
    """What the server holds; keys with their bucket in front."""

    port: int = 0
    buckets: set[str] = field(default_factory=lambda: {"bucket"})
    objects: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[str, dict[str, bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    fault: Fault = NONE
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class Handler(BaseHTTPRequestHandler):
    here: XmlStore
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # header and body are two writes

    def do_PUT(self) -> None:
        self._asked()
        if self._faulty():
            return None
        with self.here.lock:
            if "uploadId" in self.query:
                upload = self.here.uploads.get(self.query["uploadId"])
                if upload is None:
                    return self._say(404, "NoSuchUpload")
                upload[self.query["partNumber"]] = self.body
            elif self._only_new() and self.key in self.here.objects:
                return self._say(412, "PreconditionFailed")
            else:
                self.here.objects[self.key] = self.body
        return self._say(200, headers=described(self.body))

    def do_GET(self) -> None:
        self._asked()
        if self._faulty():
            return None
        if "/" not in self.key:
            return self._list(self.key)
        data = self.here.objects.get(self.key)
        if data is None:
            return self._say(404, "NoSuchKey")
        headers = described(data)
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
        self._asked()
        if self._faulty():
            return None
        with self.here.lock:
            if "uploadId" in self.query:
                self.here.uploads.pop(self.query["uploadId"], None)
                return self._say(204)
            if self.here.objects.pop(self.key, None) is None:
                return self._say(404, "NoSuchKey")
        return self._say(204)

    def do_POST(self) -> None:
        self._asked()
        if self._faulty():
            return None
        with self.here.lock:
            if "delete" in self.query:
                return self._delete(self.key)
            if "uploads" in self.query:
                number = f"upload-{len(self.here.asked)}"
                self.here.uploads[number] = {}
                tag = "InitiateMultipartUploadResult"
                return self._xml(tag, f"<UploadId>{number}</UploadId>")
            parts = self.here.uploads.pop(self.query["uploadId"], None)
            if parts is None:
                return self._say(404, "NoSuchUpload")
            self.here.objects[self.key] = b"".join(parts[each] for each in sorted(parts, key=int))
            etag = described(self.here.objects[self.key])["ETag"]
            return self._xml("CompleteMultipartUploadResult", f"<ETag>{escape(etag)}</ETag>")

    def log_message(self, *args: Any) -> None:
        pass

    def page(self, bucket: str, after: str) -> tuple[list[str], bool]:
        """Keys of one answer to a list; whether there are more."""
        prefix = f"{bucket}/{self.query.get('prefix', '')}"
        names = sorted(
            each for each in self.here.objects if each.startswith(prefix) and each > after
        )
        return names[:PAGE], len(names) > PAGE

    def decoded(self, path: str) -> str:
        return unquote(path).strip("/")

    def _asked(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        self.key = self.decoded(parts.path)
        self.query = {name: each[0] for name, each in parse_qs(parts.query, True).items()}
        self.here.asked.append(f"{self.command} {self.path}")

    def _faulty(self) -> bool:
        answer = self.here.fault(self.command, self.path)
        if answer is None and self.key.partition("/")[0] not in self.here.buckets:
            answer = (404, "NoSuchBucket")
        if answer is not None:
            self._say(*answer)
        return answer is not None

    def _only_new(self) -> bool:
        elsewhere = self.headers.get("If-None-Match") == "*"
        return elsewhere or self.headers.get("x-goog-if-generation-match") == "0"

    def _list(self, bucket: str) -> None:
        names, more = self.page(bucket, self.query.get("continuation-token", ""))
        rows = "".join(
            f"<Contents><Key>{escape(each.partition('/')[2])}</Key>"
            f"<LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>{escape(described(self.here.objects[each])['ETag'])}</ETag>"
            f"<Size>{len(self.here.objects[each])}</Size></Contents>"
            for each in names
        )
        rows += f"<IsTruncated>{str(more).lower()}</IsTruncated>"
        if more:
            rows += f"<NextContinuationToken>{escape(names[-1])}</NextContinuationToken>"
        self._xml("ListBucketResult", rows)

    def _delete(self, bucket: str) -> None:
        tree = ET.fromstring(self.body)
        keys = [str(each.text) for each in tree.iter() if each.tag.endswith("Key")]
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


class _Server(ThreadingHTTPServer):
    def handle_error(self, *args: Any) -> None:
        """Whoever asked has gone: that is what some tests are about."""


@contextmanager
def xml_store(handler: type[Handler] = Handler) -> Iterator[XmlStore]:
    store = XmlStore()
    bound = type("Bound", (handler,), {"here": store})
    server = _Server(("127.0.0.1", 0), bound)
    server.daemon_threads = True
    store.port = server.server_port
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()


def described(data: bytes) -> dict[str, str]:
    digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return {
        "ETag": f'"{digest}"',
        "Last-Modified": formatdate(usegmt=True),
        "x-goog-generation": str(int(digest[:12], 16)),
    }
