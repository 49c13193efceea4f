"""`trine engine dask` with the real Dask: a client computes through the cluster, the scheduler's node dies, and a new
client computes again."""

import json
import os
import stat
import subprocess
import sys
import time

from nodes import Nodes

LIMIT = 120

# What a user's program does: nothing in it is Trine's.
PROGRAM = """
from distributed import Client
with Client(timeout=60) as client:
    client.wait_for_workers({workers}, timeout=60)
    print(client.scheduler.address, client.submit(sum, client.map(lambda x: x * x, range(1000))).result(60))
"""


def trine(nodes, at, *words, cwd):
    command = [os.environ["TRINE"], "engine", *words, "--data", nodes.folder(at)]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT * 2, cwd=cwd)


def computed(folder, address, workers):
    """What the program prints, with the variables that `up` has written; the address, since it may have moved."""
    script = '. "$0"/env; DASK_SCHEDULER_ADDRESS=$1 exec "$2" -c "$3"'
    words = ["sh", "-c", script, os.path.join(folder, "trine-dask"), address, sys.executable]
    ran = subprocess.run(words + [PROGRAM.format(workers=workers)], capture_output=True, text=True, timeout=LIMIT)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


def status(nodes, at, folder):
    told = trine(nodes, at, "dask", "status", "--json", cwd=folder)
    return json.loads(told.stdout) if told.returncode == 0 else None


def three_ports_free(first):
    import socket

    held = []
    try:
        for port in (first, first + 1, first + 2):
            held.append(socket.create_server(("127.0.0.1", port)))
        return True
    except OSError:
        return False
    finally:
        for server in held:
            server.close()


def test_dask_outlives_its_scheduler_s_node(tmp_path):
    folder, port = str(tmp_path), next(port for port in range(33000, 34000, 3) if three_ports_free(port))
    with Nodes() as nodes:
        missing = trine(nodes, 0, "dask", "up", "--env", "/no/such/env", cwd=folder)
        assert missing.returncode == 1 and "node" in missing.stderr, missing
        assert "no program /no/such/env/bin/python" in missing.stderr and "pip install distributed" in missing.stderr

        up = trine(nodes, 0, "dask", "up", "--env", sys.prefix, "--port", str(port), cwd=folder)
        assert up.returncode == 0, up.stderr
        address = up.stdout.strip()
        assert address == f"tls://127.0.0.1:{port}"
        key = os.stat(os.path.join(folder, "trine-dask", "key.pem"))
        assert stat.S_IMODE(key.st_mode) == 0o600
        assert computed(folder, address, 3) == [address, "332833500"]

        before = status(nodes, 0, folder)
        workers = [part["node"] for part in before["parts"] if part["role"] == "worker"]
        scheduler = next(part for part in before["parts"] if part["role"] == "scheduler")
        assert sorted(workers) == [1, 2, 3] and before["address"] == address
        again = trine(nodes, 0, "dask", "up", "--env", sys.prefix, cwd=folder)
        assert again.returncode == 1 and "dask is up" in again.stderr

        nodes.kill(scheduler["node"] - 1)
        at = scheduler["node"] % 3
        begun, after = time.monotonic(), None
        while not after or not after["address"] or after["parts"][0]["node"] == scheduler["node"]:
            assert time.monotonic() - begun < LIMIT, after
            after = status(nodes, at, folder)
        assert computed(folder, after["address"], 2)[1] == "332833500"

        assert trine(nodes, at, "dask", "down", cwd=folder).returncode == 0
        deadline = time.monotonic() + LIMIT
        while not three_ports_free(port):
            assert time.monotonic() < deadline, "the scheduler still runs"
        assert trine(nodes, at, "dask", "status", cwd=folder).returncode == 1
