"""What Azure's REST API for blobs does otherwise than the XML APIs, as we read its documentation:
blocks, lists, batches of removals. It proves as little about the cloud as `xmlstore` does."""

import re
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from tests.executors.storage.xmlstore import Handler, described


class AzureHandler(Handler):
    def do_PUT(self) -> None:  # noqa: N802 - the base class of all names them so
        self._asked()
        if self._faulty():
            return None
        blocks = self.here.uploads.setdefault(self.key, {})
        with self.here.lock:
            if self.query.get("comp") == "block":
                blocks[self.query["blockid"]] = self.body
                return self._say(201)
            if self.query.get("comp") == "blocklist":
                ids = [str(each.text) for each in ET.fromstring(self.body)]
                self.body = b"".join(blocks[each] for each in ids)
            del self.here.uploads[self.key]
            if self._only_new() and self.key in self.here.objects:
                return self._say(409, "BlobAlreadyExists")
            self.here.objects[self.key] = self.body
        return self._say(201, headers=described(self.body))

    def do_POST(self) -> None:  # noqa: N802
        self._asked()
        if self._faulty():
            return None
        assert self.query.get("comp") == "batch"
        asked = re.findall(rb"\r\nDELETE /?(\S+) HTTP", self.body)
        with self.here.lock:
            gone = [self.here.objects.pop(self.decoded(each.decode()), None) for each in asked]
        answers = "".join(
            f"--x\r\nContent-Type: application/http\r\nContent-ID: {number}\r\n\r\n"
            f"HTTP/1.1 {'404 Not Found' if each is None else '202 Accepted'}\r\n"
            f"x-ms-request-id: {number}\r\n\r\n\r\n"
            for number, each in enumerate(gone)
        )
        headers = {"Content-Type": "multipart/mixed; boundary=x"}
        return self._say(202, body=f"{answers}--x--\r\n".encode(), headers=headers)

    def _list(self, container: str) -> None:
        names, more = self.page(container, self.query.get("marker", ""))
        rows = "".join(
            f"<Blob><Name>{escape(each.partition('/')[2])}</Name><Properties>"
            f"<Last-Modified>Thu, 01 Jan 2026 00:00:00 GMT</Last-Modified>"
            f"<Content-Length>{len(self.here.objects[each])}</Content-Length>"
            f"<Content-Type>application/octet-stream</Content-Type>"
            f"<Etag>{escape(described(self.here.objects[each])['ETag'])}</Etag>"
            f"</Properties></Blob>"
            for each in names
        )
        marker = escape(names[-1]) if more else ""
        self._xml("EnumerationResults", f"<Blobs>{rows}</Blobs><NextMarker>{marker}</NextMarker>")
