"""One HTTP/1.1 connection, as far as nodes speak it.

`http.client` reads headers as if they were mail, and sends head and body apart,
so that a node wakes twice for a request: both cost more time than the node needs
for its answer.
"""

import socket

# Head of an answer, and a line of a chunked body, at most.
MAX_HEAD_BYTES = 64 * 1024
# Read at once; below the size from which malloc asks the system each time.
PIECE_BYTES = 64 * 1024
# A body that is at most this long leaves together with its head.
TOGETHER_BYTES = 64 * 1024


class Broken(Exception):
    """What came is no answer, or breaks off."""


class Wire:
    """Opened when it is made. One request at a time, its answer read to the end before the next."""

    def __init__(self, host, port, timeout, context=None):
        self.sock = socket.create_connection((host, port), timeout)
        try:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is not None:
                self.sock = context.wrap_socket(self.sock, server_hostname=host)
        except BaseException:
            self.sock.close()
            raise
        self._host = "[%s]:%d" % (host, port) if ":" in host else "%s:%d" % (host, port)
        self._buffer = bytearray()

    def close(self):
        self.sock.close()

    def request(self, method, path, body, headers):
        """Sends a request, and waits for the head of its answer."""
        lines = ["%s %s HTTP/1.1" % (method, path), "Host: " + self._host]
        lines += ["%s: %s" % header for header in headers.items()]
        if body is not None or method != "GET":
            lines.append("Content-Length: %d" % len(body or b""))
        head = "\r\n".join(lines)
        if head.count("\n") != len(lines) - 1 or head.count("\r") != len(lines) - 1:
            raise ValueError("a line break in a path or a header")
        head = head.encode("latin-1") + b"\r\n\r\n"
        if body is None:
            self.sock.sendall(head)
        elif len(body) <= TOGETHER_BYTES:
            self.sock.sendall(b"".join((head, body)))
        else:
            self.sock.sendall(head)
            self.sock.sendall(body)
        return Answer(self)

    def fill(self):
        """Waits for more; false if there will be none."""
        data = self.sock.recv(PIECE_BYTES)
        self._buffer += data
        return bool(data)

    def until(self, end):
        """What comes before `end`, which is dropped."""
        start = 0
        while True:
            at = self._buffer.find(end, start)
            if at >= 0:
                taken = bytes(self._buffer[:at])
                del self._buffer[: at + len(end)]
                return taken
            start = max(0, len(self._buffer) - len(end) + 1)
            if start > MAX_HEAD_BYTES:
                raise Broken("a head without an end")
            if not self.fill():
                raise Broken("the node closed the connection")

    def take(self, most):
        """Up to `most` bytes, as soon as there are some; nothing at the end of the connection."""
        if not self._buffer and not self.fill():
            return b""
        taken = bytes(self._buffer[:most])
        del self._buffer[:most]
        return taken


class Answer:
    """Status and body of an answer; `last` says that its connection ends with it."""

    def __init__(self, wire):
        self._wire = wire
        lines = wire.until(b"\r\n\r\n").split(b"\r\n")
        try:
            version, self.status = lines[0][:9], int(lines[0][9:12])
        except ValueError:
            version = b""
        if version != b"HTTP/1.1 ":
            raise Broken("no answer of a node: %r" % lines[0][:100])
        self.last, self._chunked, self._first = False, False, True
        # What is missing of the body, or of its chunk; None: it ends with the connection.
        self._left = None
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            name, value = name.lower(), value.strip().lower()
            if name == b"content-length":
                self._left = _number(value, 10)
            elif name == b"transfer-encoding":
                self._chunked = value == b"chunked"
            elif name == b"connection":
                self.last = value == b"close"
        if self._chunked:
            self._left = 0
        elif self._left is None:
            self.last = True

    def piece(self):
        """What has come of the body; nothing at its end."""
        if self._chunked and self._left == 0:
            self._next_chunk()
        if self._left == 0:
            return b""
        piece = self._wire.take(PIECE_BYTES if self._left is None else self._left)
        if self._left is not None:
            if not piece:
                raise Broken("the node broke its answer off")
            self._left -= len(piece)
        return piece

    def read(self):
        """The whole body."""
        return b"".join(iter(self.piece, b""))

    def _next_chunk(self):
        # The line that ends a chunk is read only now: nobody waits for it.
        if not self._first and self._wire.until(b"\r\n"):
            raise Broken("a chunk that is longer than it says")
        self._first = False
        self._left = _number(self._wire.until(b"\r\n").partition(b";")[0].strip(), 16)
        if self._left == 0:
            self._chunked = False
            while self._wire.until(b"\r\n"):
                pass


def _number(text, base):
    # int() takes signs, spaces and underscores, too.
    if not text or not all(byte in b"0123456789abcdefABCDEF" for byte in text):
        raise Broken("no length: %r" % text[:100])
    try:
        return int(text, base)
    except ValueError:
        raise Broken("no length: %r" % text[:100]) from None
