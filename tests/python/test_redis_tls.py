"""redis-py over TLS against a node with a certificate of one's own authority,
and against one that made its certificate itself."""

import os
import ssl
import subprocess
from pathlib import Path

import pytest
import redis
from nodes import Nodes

PASSWORD = "a password"


def openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)


def authority(folder, name):
    """An authority that trusts nobody but itself."""
    subject = ["-subj", f"/CN={name}", "-days", "2", "-addext", "basicConstraints=critical,CA:TRUE"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key"]
    openssl(folder, "req", "-x509", *key, *subject, "-out", f"{name}.pem")


def certified(folder, name, by, extensions):
    """A key and a certificate for it, signed by an authority."""
    (folder / f"{name}.ext").write_text("\n".join(extensions) + "\n")
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key"]
    openssl(folder, "req", "-new", *key, "-subj", f"/CN={name}", "-out", f"{name}.csr")
    signing = ["-CA", f"{by}.pem", "-CAkey", f"{by}.key", "-CAcreateserial", "-days", "2"]
    openssl(folder, "x509", "-req", "-in", f"{name}.csr", *signing, "-extfile", f"{name}.ext", "-out", f"{name}.pem")


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("papers")
    for name in ("ours", "theirs"):
        authority(folder, name)
    certified(folder, "node", "ours", ["subjectAltName=IP:127.0.0.1,DNS:localhost", "extendedKeyUsage=serverAuth"])
    certified(folder, "client", "ours", ["extendedKeyUsage=clientAuth"])
    certified(folder, "stranger", "theirs", ["extendedKeyUsage=clientAuth"])
    return folder


def started(*more):
    """One node with a user."""
    nodes = Nodes(*more, count=1)
    nodes.__enter__()
    command = [nodes.program, "user", "add", "app", "--password-stdin", "--data", nodes.folder(0)]
    subprocess.run(command, input=PASSWORD + "\n", text=True, check=True, capture_output=True, timeout=60)
    return nodes


@pytest.fixture(scope="module")
def server(papers):
    nodes = started("--tls", f"redis={papers / 'node.pem'},{papers / 'node.key'}")
    yield nodes.redis[0]
    nodes.__exit__()


@pytest.fixture(scope="module")
def mutual(papers):
    """Lets only those in who have a certificate of our authority."""
    nodes = started("--tls", f"redis={papers / 'node.pem'},{papers / 'node.key'},{papers / 'ours.pem'}")
    yield nodes.redis[0]
    nodes.__exit__()


def client(port, trusted, host="localhost", protocol=3, **more):
    options = dict(ssl=True, ssl_ca_certs=str(trusted), ssl_cert_reqs="required", ssl_check_hostname=True)
    who = dict(username="app", password=PASSWORD)
    return redis.Redis(host=host, port=port, protocol=protocol, retry=None, **options, **who, **more)


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_client_that_trusts_our_authority_gets_in(server, papers, host, protocol):
    with client(server, papers / "ours.pem", host, protocol) as inside:
        value = os.urandom(1 << 20)
        assert inside.set("k", value) and inside.get("k") == value
        with inside.pipeline(transaction=False) as pipeline:
            for n in range(1_000):
                pipeline.set(f"p{n}", n)
            assert pipeline.execute() == [True] * 1_000
    with client(server, papers / "ours.pem", ssl_min_version=ssl.TLSVersion.TLSv1_3) as inside:
        assert inside.ping()


def test_who_trusts_another_authority_or_speaks_plainly_gets_nothing(server, papers):
    with client(server, papers / "theirs.pem") as wary, pytest.raises(redis.ConnectionError, match="(?i)certificate"):
        wary.ping()
    plain = redis.Redis(port=server, retry=None, socket_timeout=10)
    with plain, pytest.raises((redis.ConnectionError, redis.exceptions.InvalidResponse)):
        plain.ping()


def test_a_wrong_password_is_wrong_over_tls_too(server, papers):
    options = dict(ssl=True, ssl_ca_certs=str(papers / "ours.pem"), retry=None)
    with redis.Redis(port=server, username="app", password="wrong", **options) as outside:
        with pytest.raises(redis.AuthenticationError):
            outside.ping()


def test_only_those_with_a_certificate_of_our_authority_get_in(mutual, papers):
    def shown(name):
        return dict(ssl_certfile=str(papers / f"{name}.pem"), ssl_keyfile=str(papers / f"{name}.key"))

    with client(mutual, papers / "ours.pem", **shown("client")) as inside:
        assert inside.set("k", "v") and inside.get("k") == b"v"
    for more in ({}, shown("stranger")):
        with client(mutual, papers / "ours.pem", **more) as outside, pytest.raises(redis.ConnectionError):
            outside.ping()


def test_a_certificate_that_the_node_made_is_its_own_authority():
    nodes = started("--tls", "redis=auto")
    try:
        trusted = Path(nodes.folder(0)) / "tls" / "certificate.pem"
        with client(nodes.redis[0], trusted, "127.0.0.1") as inside:
            assert inside.set("k", "v") and inside.get("k") == b"v"
    finally:
        nodes.__exit__()
