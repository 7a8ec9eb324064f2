"""A small proxy: a prefix, taken away or not, with TLS or without, WebSockets included.

As a forward proxy it leads to its own server, whatever address it is asked for.
"""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path


class FrontProxy:
    """Stands before a server on this machine; every connection carries one request.

    Args:
        port: of the server.
        prefix: what it shows the server below, such as "/unimic".
        strip: take the prefix away from paths before it passes them on.
        folder: where cert.pem and key.pem are; None = plain HTTP.

    Attributes:
        seen: first lines of the requests, as they came.
    """

    def __init__(
        self, port: int, prefix: str = "", strip: bool = True, folder: Path | None = None
    ) -> None:
        self._to, self._prefix, self._strip = port, prefix, strip
        self._tls = None
        if folder is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.seen: list[str] = []

    @property
    def url(self) -> str:
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self.port}{self._prefix}"

    def __enter__(self) -> FrontProxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client:
            if self._tls is not None:
                client = self._tls.wrap_socket(client, server_side=True)
            with client, socket.create_connection(("127.0.0.1", self._to)) as server:
                self._carry(client, server)

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            chunk = client.recv(1 << 14)
            if not chunk:
                return
            data += chunk
        head, _, body = data.partition(b"\r\n\r\n")
        method, path, version = head.partition(b"\r\n")[0].split()
        self.seen.append(path.decode())
        if method == b"CONNECT":
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            threading.Thread(target=pump, args=(client, server), daemon=True).start()
            pump(server, client)
            return
        if path.startswith(b"http://"):
            path = b"/" + path.split(b"/", 3)[3]
        if not path.startswith(self._prefix.encode()):
            client.sendall(
                b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n"
            )
            return
        if self._strip:
            path = path.removeprefix(self._prefix.encode())
        lines = [b" ".join((method, path, version)), *head.split(b"\r\n")[1:]]
        if b"upgrade:" not in head.lower():
            lines.append(b"Connection: close")
        server.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        threading.Thread(target=pump, args=(client, server), daemon=True).start()
        pump(server, client)


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Carry bytes until either end is gone."""
    with suppress(OSError, ValueError):
        while chunk := source.recv(1 << 14):
            sink.sendall(chunk)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)
