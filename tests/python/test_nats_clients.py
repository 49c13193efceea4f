"""NATS for Node and nats.go, unmodified: their tests stand in tests/node and
tests/go; here they get three nodes, three that one may kill, and a door with
TLS and a password. nats-py's own authentication and TLS are at the end."""

import asyncio
import os
import shutil
import ssl
import subprocess
import tempfile
import time
from pathlib import Path

import nats
import pytest
from nodes import Nodes

ROOT = Path(__file__).resolve().parents[2]
# Longest that an installation, and the tests of one client, may take.
INSTALL_LIMIT = 300
TEST_LIMIT = 180
START_LIMIT = 30


class Secure:
    """The binary called nats-server, with TLS and the user ann."""

    def __init__(self):
        self.data = Path(tempfile.mkdtemp(prefix="trine-secure-"))
        # A node makes a certificate for localhost.
        with Nodes("--tls", "nats=auto", count=1) as nodes:
            for name in ("certificate.pem", "key.pem"):
                shutil.copy(Path(nodes.folder(0)) / "tls" / name, self.data / name)
        self.authority = self.data / "certificate.pem"
        configuration = self.data / "nats.conf"
        configuration.write_text(
            "authorization { user: ann, password: pw }\n"
            f"tls {{ cert_file: '{self.authority}', key_file: '{self.data / 'key.pem'}' }}\n"
        )
        link = self.data / "nats-server"
        link.symlink_to(os.path.abspath(os.environ["TRINE"]))
        log = self.data / "log"
        self.process = subprocess.Popen([link, "-p", "-1", "-c", configuration, "-l", log])
        deadline = time.monotonic() + START_LIMIT
        while not (log.exists() and "Server is ready" in log.read_text()):
            assert self.process.poll() is None and time.monotonic() < deadline, "it does not start"
            time.sleep(0.01)
        line = next(line for line in log.read_text().splitlines() if "client connections on" in line)
        self.port = int(line.rsplit(":", 1)[1])

    def close(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.data, ignore_errors=True)


@pytest.fixture(scope="module")
def secure():
    door = Secure()
    yield door
    door.close()


@pytest.fixture
def surroundings(cluster, secure):
    """Where the nodes are, in environment variables."""
    with Nodes() as victims:
        yield os.environ | {
            "NATS_PORTS": ",".join(map(str, cluster.nats)),
            "NATS_VICTIMS": ",".join(map(str, victims.nats)),
            "NATS_VICTIM_PID": str(victims.processes[0].pid),
            "NATS_TLS_PORT": str(secure.port),
            "NATS_TLS_CA": str(secure.authority),
        }


def not_run(why):
    pytest.skip(f"NOT RUN: {why}")


def program(name, *elsewhere):
    found = shutil.which(name) or next((path for path in elsewhere if os.path.exists(path)), None)
    return found or not_run(f"there is no {name}")


def succeeds(command, limit, **options):
    done = subprocess.run(command, timeout=limit, capture_output=True, text=True, **options)
    assert done.returncode == 0, (done.stdout + done.stderr)[-8000:]
    return done.stdout


def copied(name):
    """The folder of a client's tests, below target/, where its library may be installed."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "clients" / name
    shutil.copytree(ROOT / "tests" / name, target, dirs_exist_ok=True)
    return target


def test_nats_for_node(surroundings):
    node, npm = program("node"), program("npm")
    folder = copied("node")
    install = [npm, "install", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(install, cwd=folder, timeout=INSTALL_LIMIT, capture_output=True, text=True)
    if done.returncode != 0:
        not_run(f"npm cannot install it: {done.stderr[-500:]}")
    succeeds([node, "--test", "nats.test.js"], TEST_LIMIT, cwd=folder, env=surroundings)


def test_nats_go(surroundings):
    go = program("go", "/usr/local/go/bin/go")
    folder = copied("go")
    done = subprocess.run([go, "mod", "download"], cwd=folder, timeout=INSTALL_LIMIT, capture_output=True, text=True)
    if done.returncode != 0:
        not_run(f"go cannot obtain it: {done.stderr[-500:]}")
    succeeds([go, "test", "-count=1", "./..."], TEST_LIMIT, cwd=folder, env=surroundings)


def test_nats_py_gets_in_over_tls_with_the_right_password_only(secure):
    async def test():
        trusted = ssl.create_default_context(cafile=secure.authority)
        url = f"tls://localhost:{secure.port}"
        once = dict(tls=trusted, allow_reconnect=False, connect_timeout=START_LIMIT)
        for wrong in (dict(user="ann", password="wrong"), {}):
            with pytest.raises(nats.errors.Error, match="(?i)authorization"):
                await nats.connect(url, **once, **wrong)
        client = await nats.connect(url, **once, user="ann", password="pw")
        subscription = await client.subscribe("safe")
        await client.publish("safe", b"x")
        await subscription.next_msg(timeout=START_LIMIT)
        await client.close()

    asyncio.run(test())
