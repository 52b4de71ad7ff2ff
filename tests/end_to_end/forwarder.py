"""A TCP forwarder in front of a server that looks at what passes: real faults of the wire."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

AT_ONCE: Final = 1 << 16
LONGEST: Final = 64
"""Bytes of what is looked for: it may come in two pieces."""


class Forwarder:
    """Listens on a port of its own. Where the marker passes towards the server, `seen` is called
    before the server gets it whole, and the connection is cut."""

    def __init__(self, port: int, marker: bytes, seen: Callable[[], None]) -> None:
        assert len(marker) <= LONGEST
        self._server = ("127.0.0.1", port)
        self._marker = marker
        self._seen = seen
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self.armed = True

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def uri(self) -> str:
        """Direct: else a driver would ask the server for its own address and go there."""
        return f"mongodb://127.0.0.1:{self.port}/?directConnection=true"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in list(self._open):
            _cut(each)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                self._open |= {client, server}
                for way in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._forward, args=way, daemon=True).start()

    def _forward(self, one: socket.socket, other: socket.socket, looked_at: bool) -> None:
        last = b""
        with suppress(OSError):
            while data := one.recv(AT_ONCE):
                if looked_at and self.armed and self._marker in last + data:
                    self._seen()
                    break
                last = data[-LONGEST:]
                other.sendall(data)
        for each in (one, other):
            _cut(each)
            self._open.discard(each)


def _cut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
