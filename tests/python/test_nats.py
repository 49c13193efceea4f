"""nats-py, unmodified, against the NATS doors of three nodes."""

import asyncio
import time

import nats
import pytest
from nats.errors import NoRespondersError
from nodes import Nodes

# A test that waits longer has found a bug.
PATIENCE = 20


def run(test):
    """Runs a coroutine to its end, within a bound."""
    return asyncio.run(asyncio.wait_for(test, 3 * PATIENCE))


def url(port):
    return f"nats://127.0.0.1:{port}"


async def connected(port, **options):
    return await nats.connect(url(port), connect_timeout=PATIENCE, **options)


async def on_each(ports):
    return [await connected(port) for port in ports]


async def close(clients):
    for client in clients:
        await client.close()


async def until_heard(publisher, subject, subscription, text):
    """Publishes until the first message crosses: interest takes a moment to reach the other nodes."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        await publisher.publish(subject, text)
        try:
            return await subscription.next_msg(timeout=0.1)
        except nats.errors.TimeoutError:
            pass
    raise AssertionError(f"nothing came to {subject}")


@pytest.mark.parametrize("there", [0, 1, 2])
@pytest.mark.parametrize("here", [0, 1, 2])
def test_a_message_crosses_from_any_node_to_any(cluster, here, there):
    async def test():
        publisher, subscriber = await connected(cluster.nats[here]), await connected(cluster.nats[there])
        subscription = await subscriber.subscribe(f"cross.{here}.*")
        await subscriber.flush()
        subject = f"cross.{here}.{there}"
        await until_heard(publisher, subject, subscription, b"first")
        for number in range(100):
            await publisher.publish(subject, str(number).encode())
        await publisher.flush()
        got = []
        while len(got) < 100:
            message = await subscription.next_msg(timeout=PATIENCE)
            if message.data != b"first":
                got.append(int(message.data))
        assert got == list(range(100))
        await close([publisher, subscriber])

    run(test())


def test_a_queue_group_over_three_nodes_gets_each_message_once(cluster):
    async def test():
        clients = await on_each(cluster.nats)
        got = []
        subscriptions = []
        for client in clients:

            async def take(message):
                got.append(int(message.data))

            subscriptions.append(await client.subscribe("queue.jobs", "workers", cb=take))
            await client.flush()
        for number in range(300):
            await clients[number % 3].publish("queue.jobs", str(number).encode())
        for client in clients:
            await client.flush()
        deadline = time.monotonic() + PATIENCE
        while len(got) < 300 and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        assert sorted(got) == list(range(300))
        await close(clients)

    run(test())


@pytest.mark.parametrize("there", [0, 1, 2])
def test_requests_are_answered_from_any_node(cluster, there):
    async def test():
        asker, answerer = await connected(cluster.nats[0]), await connected(cluster.nats[there])
        subject = f"ask.{there}"

        async def answer(message):
            await message.respond(b"to " + message.data)

        await answerer.subscribe(subject, cb=answer)
        await answerer.flush()
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                reply = await asker.request(subject, b"you", timeout=PATIENCE)
                break
            except NoRespondersError:
                assert time.monotonic() < deadline
        assert reply.data == b"to you"
        with pytest.raises(NoRespondersError):
            await asker.request("ask.nobody", b"", timeout=PATIENCE)
        await close([asker, answerer])

    run(test())


def test_headers_cross(cluster):
    async def test():
        clients = await on_each(cluster.nats[:2])
        subscription = await clients[1].subscribe("headers.>")
        await clients[1].flush()
        await until_heard(clients[0], "headers.a", subscription, b"first")
        await clients[0].publish("headers.b", b"text", headers={"Colour": "blue", "Size": "7"})
        message = await subscription.next_msg(timeout=PATIENCE)
        while message.subject == "headers.a":
            message = await subscription.next_msg(timeout=PATIENCE)
        assert (message.data, message.headers) == (b"text", {"Colour": "blue", "Size": "7"})
        await close(clients)

    run(test())


def test_drain_handles_what_has_come_and_limits_end(cluster):
    async def test():
        client, other = await connected(cluster.nats[0]), await connected(cluster.nats[0])
        got = []

        async def slowly(message):
            await asyncio.sleep(0.001)
            got.append(message)

        await client.subscribe("drain.it", cb=slowly)
        limited = await client.subscribe("drain.three")
        await limited.unsubscribe(limit=3)
        await client.flush()
        for _ in range(100):
            await other.publish("drain.it", b"x")
            await other.publish("drain.three", b"x")
        await other.flush()
        for _ in range(3):
            await limited.next_msg(timeout=PATIENCE)
        await client.drain()
        assert len(got) == 100 and client.is_closed
        await close([other])

    run(test())


def test_a_client_is_told_of_the_other_nodes(cluster):
    async def test():
        client = await connected(cluster.nats[0])
        wanted = {f"127.0.0.1:{port}" for port in cluster.nats[1:]}
        deadline = time.monotonic() + PATIENCE
        while {server.netloc for server in client.discovered_servers} < wanted:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        await close([client])

    run(test())


def test_a_client_goes_on_at_another_node_when_its_own_is_killed():
    async def test(nodes):
        back = asyncio.Event()

        async def reconnected():
            back.set()

        options = dict(reconnected_cb=reconnected, reconnect_time_wait=0.05, max_reconnect_attempts=-1)
        # It knows one node; the others it is told of.
        client, other = await connected(nodes.nats[1], **options), await connected(nodes.nats[0])
        deadline = time.monotonic() + PATIENCE
        while len(client.discovered_servers) < 2:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        subscription = await client.subscribe("after.it")
        await client.flush()
        await until_heard(other, "after.it", subscription, b"before")
        nodes.kill(1)
        await asyncio.wait_for(back.wait(), PATIENCE)
        await until_heard(other, "after.it", subscription, b"after")
        await close([client, other])

    with Nodes() as nodes:
        run(test(nodes))
