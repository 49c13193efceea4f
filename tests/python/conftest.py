"""Three real nodes for the client tests: one `trine dev` for the whole run.

The binary is the one named by the environment variable TRINE. Ports are free
ones, so that nothing else on the machine is in the way.
"""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field

import sys

import pytest
import redis

# Nodes execute functions with this interpreter, and tests use the client of this checkout.
os.environ.setdefault("TRINE_PYTHON", sys.executable)
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "..", "clients", "python"))


@dataclass(frozen=True)
class Cluster:
    """Where the nodes are; node n is at index n-1."""

    ports: list[int]
    pids: list[int]
    nats: list[int]
    data: str = ""
    admin: list[int] = field(default_factory=list)


def free_ports(count: int) -> int:
    """A port such that it and the next `count - 1` in steps of 10 are free, as are those 10,000 above."""
    for first in range(21000, 29000, 100):
        wanted = [first + 10 * n + above for n in range(count) for above in (0, 2, 5, 10000)]
        held = []
        try:
            for port in wanted:
                held.append(socket.create_server(("127.0.0.1", port)))
            return first
        except OSError:
            continue
        finally:
            for server in held:
                server.close()
    raise RuntimeError("no free ports")


@contextmanager
def running():
    """A cluster of three nodes, gone at the end."""
    data = tempfile.mkdtemp(prefix="trine-clients-")
    first = free_ports(3)
    arguments = [os.environ["TRINE"], "dev", "--json", "--nodes", "3", "--data", data, "--redis-port", str(first)]
    arguments += ["--nats-port", str(first + 2), "--admin-port", str(first + 5)]
    log = open(os.path.join(data, "dev.log"), "w+")
    dev = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=log, text=True)
    line = dev.stdout.readline()
    if not line:
        log.seek(0)
        raise RuntimeError(f"trine dev ended with {dev.wait()}: {log.read()[-4000:]}")
    doors = json.loads(line)
    ports = {surface: [int(door[surface].rsplit(":", 1)[1]) for door in doors] for surface in ("redis", "nats", "admin")}
    try:
        yield Cluster(ports["redis"], [door["pid"] for door in doors], ports["nats"], data, ports["admin"])
    finally:
        dev.send_signal(signal.SIGTERM)
        dev.wait(timeout=30)
        shutil.rmtree(data, ignore_errors=True)


@pytest.fixture
def tmp_path():
    """A folder that tasks may use, too: where nodes run as root, tasks run as other users."""
    with tempfile.TemporaryDirectory(prefix="trine-test-") as folder:
        os.chmod(folder, 0o777)
        yield pathlib.Path(folder)


@pytest.fixture(scope="session")
def cluster():
    with running() as cluster:
        yield cluster


@pytest.fixture(params=[1, 2, 3], ids=["node1", "node2", "node3"])
def port(cluster, request):
    """The port of each node in turn."""
    return cluster.ports[request.param - 1]


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def protocol(request):
    return request.param


@pytest.fixture
def client(port, protocol):
    """redis-py, plain, connected to one node; the database is empty."""
    with redis.Redis(port=port, protocol=protocol, retry=None) as client:
        client.flushall()
        yield client
