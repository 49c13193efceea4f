"""AUTH and ACL with redis-py against three nodes that have users, and the
users as `trine user` and `trine token` change them."""

import os
import socket
import subprocess
import time

import pytest
import redis

from conftest import running

ADMIN = "admin password"
# A revoked user is cut off everywhere within this time.
CUT_OFF_S = 2.0


def trine(cluster, *arguments, stdin=None):
    """Runs the command line against node 1; what it prints."""
    command = [os.environ["TRINE"], *arguments, "--data", os.path.join(cluster.data, "node1")]
    return subprocess.run(command, input=stdin, text=True, capture_output=True, check=True, timeout=60).stdout


def eventually(condition, seconds=CUT_OFF_S):
    """Asks until it holds or the time is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
    return condition()


@pytest.fixture(scope="module")
def guarded():
    with running() as cluster:
        trine(cluster, "user", "add", "root", "--allow", "everything", "--password-stdin", stdin=ADMIN + "\n")
        # Every node hears of it by itself.
        for port in cluster.ports:
            assert eventually(lambda: refused(port, "GET", "k").startswith("Authentication required"))
        yield cluster


def connect(port, user=None, password=None, protocol=2):
    return redis.Redis(port=port, username=user, password=password, protocol=protocol, retry=None)


def refused(port, *command, user=None, password=None, protocol=2):
    """The error that a command gets; empty if it gets none."""
    with connect(port, user, password, protocol) as client:
        try:
            client.execute_command(*command)
            return ""
        except redis.AuthenticationError as error:
            return str(error)
        except redis.ConnectionError as error:
            return f"closed: {error}"
        except redis.RedisError as error:
            return str(error)


@pytest.fixture
def root(guarded):
    with connect(guarded.ports[0], "root", ADMIN) as client:
        yield client


def everywhere(guarded, user, password):
    """Every node lets the user in, from the first moment on."""
    for port in guarded.ports:
        assert "invalid username-password pair" not in refused(port, "ECHO", "hi", user=user, password=password), port


@pytest.mark.parametrize("node", [0, 1, 2])
def test_nobody_comes_in_without_a_password(guarded, node):
    port = guarded.ports[node]
    assert refused(port, "GET", "k") == "Authentication required."
    assert "invalid username-password pair" in refused(port, "PING", user="root", password="wrong")
    assert refused(port, "PING", user="root", password=ADMIN) == ""


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("node", [0, 1, 2])
def test_a_user_has_the_rights_that_acl_gives(guarded, root, node, protocol):
    name = f"app{node}{protocol}"
    assert root.acl_setuser(
        name, enabled=True, passwords=["+secret"], keys=["app:*"], commands=["+@read", "+set", "+acl|whoami"], reset=True
    )
    everywhere(guarded, name, "secret")
    with connect(guarded.ports[node], name, "secret", protocol) as client:
        assert client.acl_whoami() in (name, name.encode())
        assert client.set("app:1", "x") and client.get("app:1") == b"x"
        with pytest.raises(redis.exceptions.NoPermissionError, match="access one of the keys"):
            client.get("other")
        with pytest.raises(redis.exceptions.NoPermissionError, match="run the 'del' command"):
            client.delete("app:1")
        with pytest.raises(redis.exceptions.NoPermissionError, match="acl"):
            client.acl_setuser(name, enabled=True, commands=["+@all"])


def test_exec_looks_again_at_what_was_queued(guarded, root):
    port = guarded.ports[1]
    root.acl_setuser("queuer", enabled=True, passwords=["+secret"], keys=["*"], commands=["+@all"], reset=True)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as stream:
        lines = stream.makefile("rw", newline="\r\n")
        for command in ("AUTH queuer secret", "MULTI", "SET q:1 x"):
            lines.write(command + "\r\n")
            lines.flush()
            assert lines.readline() in ("+OK\r\n", "+QUEUED\r\n")
        root.execute_command("ACL", "SETUSER", "queuer", "-set")
        # Its node hears of changed rights by itself.
        assert eventually(lambda: "'set'" in refused(port, "SET", "q:2", "x", user="queuer", password="secret"))
        lines.write("EXEC\r\n")
        lines.flush()
        assert "nothing was executed" in lines.readline()
    assert root.get("q:1") is None


def test_users_read_back(root):
    root.acl_setuser("reader", enabled=True, nopass=True, keys=["a:*"], commands=["+@read", "-keys"], reset=True)
    user = root.acl_getuser("reader")
    assert user["flags"] == ["on", "nopass"] and user["enabled"]
    assert "reader" in root.acl_users() and any(line.startswith("user reader on nopass") for line in root.acl_list())
    assert "read" in root.acl_cat() and "get" in root.acl_cat("read")
    assert root.acl_deluser("reader") == 1 and root.acl_getuser("reader") is None


def test_who_is_removed_is_cut_off_everywhere(guarded, root):
    root.acl_setuser("leaver", enabled=True, passwords=["+secret"], keys=["*"], commands=["+@all"], reset=True)
    everywhere(guarded, "leaver", "secret")
    clients = [connect(port, "leaver", "secret") for port in guarded.ports]
    connections = [client.connection_pool.get_connection() for client in clients]
    began = time.monotonic()
    root.acl_deluser("leaver")
    for connection in connections:
        connection._sock.settimeout(CUT_OFF_S)
        assert connection._sock.recv(1) == b"", "the node closes it"
    assert time.monotonic() - began < CUT_OFF_S


def test_tokens_are_good_until_they_are_replaced(guarded):
    token = trine(guarded, "token", "add", "app", "--allow", "command:@all", "--allow", "key:t:*").strip()
    for port in guarded.ports:
        assert refused(port, "SET", "t:1", "x", password=token) == ""
        assert refused(port, "SET", "t:1", "x", password=token, protocol=3) == ""
        assert "keys" in refused(port, "GET", "other", password=token)
    fresh = trine(guarded, "token", "rotate", "app").strip()
    for port in guarded.ports:
        assert eventually(lambda: "WRONGPASS" in plain(port, "AUTH", token))
        assert "+OK" in plain(port, "AUTH", fresh)


def plain(port, *words):
    """One command without a library; the first line of the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as stream:
        stream.sendall((" ".join(words) + "\r\n").encode())
        return stream.makefile("r", newline="\r\n").readline()


def test_http_is_cut_off(guarded):
    for request in [b"POST / HTTP/1.1\r\nHost: x\r\n\r\nSET a b\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"]:
        with socket.create_connection(("127.0.0.1", guarded.ports[0]), timeout=10) as stream:
            stream.sendall(request)
            answer = stream.makefile("rb").read()
            assert b"+OK" not in answer


def test_the_audit_log_says_who(guarded, root):
    root.acl_setuser("audited", enabled=False, reset=True)
    text = trine(guarded, "audit")
    assert "root at n1" in text and "added user audited" in text and "operator at n1" in text
