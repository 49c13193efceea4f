"""The records that travel over HTTP, both ways:

    +--------+-----------+--------+------+
    | length | head,JSON | length | body |      lengths: u32, little endian
    +--------+-----------+--------+------+

A record of two zero lengths says only that the sender is alive.
"""

import json
import struct

_LENGTH = struct.Struct("<I")
_to_json = json.JSONEncoder(separators=(",", ":")).encode
# Longest head that is read.
MAX_HEAD_BYTES = 1024 * 1024
# Longest body that is read: three outputs that travel with a result.
MAX_BODY_BYTES = 16 * 1024 * 1024


class Malformed(Exception):
    """The other side does not speak this format."""


def encode(head, body=b""):
    return Head(head).encode(body)


class Head:
    """A head that many records share."""

    __slots__ = ("_encoded",)

    def __init__(self, head):
        head = _to_json(head).encode()
        self._encoded = _LENGTH.pack(len(head)) + head

    def encode(self, body):
        return b"".join((self._encoded, _LENGTH.pack(len(body)), body))


# A call without large arguments, on whichever node.
PLAIN_CALL = Head({"python": {"blobs": []}})


class Decoder:
    """Cuts records out of pieces as they arrive."""

    def __init__(self):
        self._buffer = bytearray()

    def feed(self, piece):
        self._buffer += piece
        return self._records()

    def _records(self):
        buffer, at = self._buffer, 0
        while len(buffer) - at >= 4:
            (head_length,) = _LENGTH.unpack_from(buffer, at)
            if head_length > MAX_HEAD_BYTES:
                raise Malformed("a head of %d bytes" % head_length)
            body_at = at + 4 + head_length + 4
            if len(buffer) < body_at:
                break
            (body_length,) = _LENGTH.unpack_from(buffer, body_at - 4)
            if body_length > MAX_BODY_BYTES:
                raise Malformed("a body of %d bytes" % body_length)
            if len(buffer) < body_at + body_length:
                break
            head = bytes(buffer[at + 4 : at + 4 + head_length])
            body = bytes(buffer[body_at : body_at + body_length])
            at = body_at + body_length
            if head:
                yield json.loads(head), body
        del buffer[:at]
