"""The cluster's users, tokens and nkeys at the NATS doors of three nodes, with nats-py."""

import asyncio
import subprocess
import time

import nats
import pytest
from nats.errors import Error
from nodes import Nodes

PATIENCE = 20
# A pair of a suite of NATS clients: worth nothing anywhere.
SEED = "SUACH75SWCM5D2JMJM6EKLR2WDARVGZT4QC6LX3AGHSWOMVAKERABBBRWM"
NKEY = "UAFHG6FUD2UU4SDFVAFUL5LDFO2XM4WYM76UNXTPJYJK7EEMYRBHT2VE"


@pytest.fixture(scope="module")
def nodes():
    with Nodes() as nodes:
        yield nodes


@pytest.fixture(scope="module")
def token(nodes):
    """Adds ann with a password, kim with an nkey, and a token, whose secret it is."""

    def trine(*arguments, text=""):
        command = [nodes.program, *arguments, "--data", nodes.folder(0)]
        return subprocess.run(command, input=text, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout

    secret = trine("token", "add", "ci").split()[-1]
    trine("user", "add", "ann", "--password-stdin", "--allow", "data", "--deny", "subject:secret.>", text="pw\n")
    trine("user", "add", "kim", "--nkey", NKEY)
    return secret


async def connected(port, **options):
    url = f"nats://127.0.0.1:{port}"
    return await nats.connect(url, connect_timeout=PATIENCE, allow_reconnect=False, **options)


def test_each_kind_of_credential_on_every_node(nodes, token):
    async def test():
        for port in nodes.nats:
            for right in (dict(user="ann", password="pw"), dict(token=token), dict(nkeys_seed_str=SEED)):
                client = await connected(port, **right)
                await client.flush()
                await client.close()
            for wrong in ({}, dict(user="ann", password="no"), dict(token=token + "x")):
                with pytest.raises(Error, match="(?i)authorization"):
                    await connected(port, **wrong)

    asyncio.run(asyncio.wait_for(test(), 3 * PATIENCE))


def test_a_subscriber_to_everything_sees_only_what_it_may(nodes, token):
    async def test():
        ann, ci = await connected(nodes.nats[1], user="ann", password="pw"), await connected(nodes.nats[0], token=token)
        everything = await ann.subscribe(">")
        await ann.flush()
        deadline = time.monotonic() + PATIENCE
        # Interest takes a moment to cross; what is denied never does.
        while time.monotonic() < deadline:
            await ci.publish("secret.plan", b"x")
            await ci.publish("open", b"x")
            try:
                message = await everything.next_msg(timeout=0.1)
                break
            except nats.errors.TimeoutError:
                pass
        seen = {message.subject}
        await ci.publish("secret.plan", b"x")
        await ci.publish("last", b"x")
        while message.subject != "last":
            message = await everything.next_msg(timeout=PATIENCE)
            seen.add(message.subject)
        assert seen == {"open", "last"}
        await ann.close()
        await ci.close()

    asyncio.run(asyncio.wait_for(test(), 3 * PATIENCE))
