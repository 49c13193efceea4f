"""Connections to nodes: any node takes any request, so that the next one is
asked when one does not answer."""

import json
import os
import socket
import ssl
import threading
import time

from . import _token, _wire
from .errors import Denied, Refused, Unreachable

# How long a connection, or an answer that is not a stream, may take.
ANSWER_LIMIT = 60.0
CONNECT_LIMIT = 5.0
# A stream says at least this often that it is alive, twice over.
SILENCE_LIMIT = 30.0
# How long nodes that do not answer are asked again.
UNREACHABLE_LIMIT = 30.0
# Pause between two rounds over all nodes.
ROUND_PAUSE = 0.1

_BROKEN = (OSError, _wire.Broken)


class Address:
    """Where a node is, as in `127.0.0.1:7070` or `https://node1.example:7070`."""

    def __init__(self, text):
        scheme, _, rest = text.rpartition("://")
        host, colon, port = rest.rstrip("/").rpartition(":")
        if scheme not in ("", "http", "https") or not colon or not port.isdigit() or not host:
            raise ValueError("%r is no address of a node: give HOST:PORT, or https://HOST:PORT" % text)
        self.text, self.secure = text, scheme == "https"
        self.host, self.port = host.strip("[]"), int(port)

    def connect(self, context):
        if self.secure:
            context = context or ssl.create_default_context()
            return _wire.Wire(self.host, self.port, CONNECT_LIMIT, context)
        return _wire.Wire(self.host, self.port, CONNECT_LIMIT)


def addresses(given):
    if isinstance(given, str):
        given = given.split(",")
    parsed = [Address(text.strip()) for text in given]
    if not parsed:
        raise ValueError("give the address of a node, as in 127.0.0.1:7070")
    return parsed


class Cluster:
    """What connections share: the addresses, and the credential once one was accepted."""

    def __init__(self, given, token=None, ssl_context=None):
        self.addresses = addresses(given)
        self.given_token = token
        self.ssl_context = ssl_context
        authority = os.environ.get("TRINE_CA_FILE")
        if ssl_context is None and authority:
            self.ssl_context = ssl.create_default_context(cafile=authority)
        self._accepted = {}
        self._lock = threading.Lock()

    def tokens(self, address):
        with self._lock:
            known = self._accepted.get(address.text)
        return [known] if known else _token.tokens(address.port, self.given_token)

    def accept(self, address, token):
        with self._lock:
            self._accepted[address.text] = token


class Connection:
    """One connection, for one thread at a time; opened again when it breaks."""

    def __init__(self, cluster):
        self._cluster = cluster
        self._at = 0
        self._open = None

    def close(self):
        if self._open is not None:
            self._open.close()
            self._open = None

    def interrupt(self):
        """Ends what another thread waits for here."""
        wire = self._open
        if wire is not None:
            try:
                wire.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def ask(self, method, path, body=None, kind="application/json", repeat=True, limit=UNREACHABLE_LIMIT):
        """The answer's JSON. With `repeat`, asks every node until one answers or `limit` is over."""
        if body is not None and not isinstance(body, (bytes, bytearray, memoryview)):
            body = json.dumps(body).encode()
        data = self._request(method, path, body, kind, repeat, limit)
        return json.loads(data) if data else None

    def bytes(self, path):
        """A whole body that is no JSON."""
        return self._request("GET", path, None, None, True, UNREACHABLE_LIMIT)

    def stream(self, path, limit=UNREACHABLE_LIMIT):
        """An answer whose body arrives bit by bit: `piece` for `piece`."""
        answer = self._request("GET", path, None, None, True, limit, whole=False)
        self._open.sock.settimeout(SILENCE_LIMIT)
        return answer

    def _request(self, method, path, body, kind, repeat, limit, whole=True):
        deadline = time.monotonic() + limit
        addresses = self._cluster.addresses
        while True:
            for _ in addresses:
                address = addresses[self._at % len(addresses)]
                try:
                    return self._once(address, method, path, body, kind, whole)
                except _BROKEN as error:
                    if isinstance(error, (Denied, Refused)):
                        raise
                    was_open, broken = self._open is not None, error
                    self.close()
                    if isinstance(broken, _Later) or not (was_open and len(addresses) == 1):
                        self._at += 1
                    if not repeat:
                        raise Unreachable("%s %s at %s: %s" % (method, path, address.text, broken)) from None
            if time.monotonic() >= deadline:
                names = ", ".join(address.text for address in addresses)
                raise Unreachable("no node answers at %s: %s" % (names, broken)) from None
            time.sleep(ROUND_PAUSE)

    def _once(self, address, method, path, body, kind, whole):
        tokens = self._cluster.tokens(address)
        for token in tokens or [None]:
            if self._open is None:
                self._open = address.connect(self._cluster.ssl_context)
                self._open.sock.settimeout(ANSWER_LIMIT)
            headers = {"Authorization": "Bearer " + token} if token else {}
            if kind and body is not None:
                headers["Content-Type"] = kind
            answer = self._open.request(method, path, body, headers)
            succeeded = answer.status < 300
            if succeeded and token:
                self._cluster.accept(address, token)
            if succeeded and not whole:
                return answer
            data = answer.read()
            if answer.last:
                self.close()
            if succeeded:
                return data
            if answer.status == 401 and token != (tokens or [None])[-1]:
                self.close()
                continue
            raise _error(answer.status, data, address, method, path)
        raise Denied("no credential for %s; %s" % (address.text, _token.HINT))


class _Later(_wire.Broken):
    """The node cannot answer now; another one may."""


def _error(status, data, address, method, path):
    try:
        error = json.loads(data)["error"]
        text = error["message"]
        if error.get("hint"):
            text += " (%s)" % error["hint"]
    except (ValueError, KeyError, TypeError):
        text = data.decode("utf-8", "replace")[:500]
    text = "%s %s at %s: %s" % (method, path, address.text, text)
    if status == 401:
        return Denied("%s; %s" % (text, _token.HINT))
    if status == 403:
        return Denied(text)
    if status in (429, 502, 503, 504):
        return _Later(text)
    return Refused(text)
