"""How the client reads answers, in whatever pieces they come."""

import socket
import threading

import pytest

from trine import _wire

LIMIT = 10.0


def answered(pieces, method="GET", body=None):
    """What a node that says `pieces` was asked, and the client's side of it."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        wire = _wire.Wire("127.0.0.1", door.getsockname()[1], LIMIT)
        node, _ = door.accept()
    asked = bytearray()

    def speak():
        with node:
            while b"\r\n\r\n" not in asked:
                asked.extend(node.recv(65536))
            for piece in pieces:
                node.sendall(piece)

    speaker = threading.Thread(target=speak)
    speaker.start()
    try:
        answer = wire.request(method, "/v1/jobs", body, {"Authorization": "Bearer t"})
        return bytes(asked), answer.status, answer.read(), answer.last
    finally:
        speaker.join()
        wire.close()


def test_a_request_leaves_whole():
    asked, status, body, last = answered([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"], "POST", b"tasks")
    assert asked.startswith(b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1:")
    assert asked.endswith(b"Authorization: Bearer t\r\nContent-Length: 5\r\n\r\ntasks")
    assert (status, body, last) == (200, b"{}", False)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_chunks_are_joined_wherever_they_are_cut(size):
    text = (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3\r\nabc\r\nA;why=x\r\n0123456789\r\n0\r\nTrailer: 1\r\n\r\n")
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    assert answered(pieces)[1:] == (200, b"abc0123456789", False)


def test_a_body_may_end_with_its_connection():
    assert answered([b"HTTP/1.1 401 Unauthorized\r\n\r\nno", b"body"])[1:] == (401, b"nobody", True)
    closing = b"HTTP/1.1 503 Later\r\nConnection: close\r\nContent-Length: 1\r\n\r\n."
    assert answered([closing])[1:] == (503, b".", True)


@pytest.mark.parametrize("text", [
    b"", b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 2x0 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n1234",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"x" * 200_000,
])
def test_what_is_no_answer_is_refused(text):
    with pytest.raises((_wire.Broken, ConnectionError)):
        answered([text])


def test_no_header_can_be_smuggled_in():
    with socket.create_server(("127.0.0.1", 0)) as door:
        wire = _wire.Wire("127.0.0.1", door.getsockname()[1], LIMIT)
        with pytest.raises(ValueError):
            wire.request("GET", "/v1/jobs", None, {"Authorization": "Bearer t\r\nX: y"})
        wire.close()
