"""redis-py's plain client against each node, in both protocol versions."""

import random
import threading

import pytest
import redis


def test_a_value_comes_back(client):
    assert client.set("key", b"value \x00\xff") is True
    assert client.get("key") == b"value \x00\xff"
    assert client.get("missing") is None
    assert client.type("key") in (b"string", "string")
    assert client.delete("key", "missing") == 1


def test_any_node_reads_what_any_node_wrote(cluster, client):
    others = [redis.Redis(port=port) for port in cluster.ports]
    for n in range(100):
        client.set(f"any:{n}", n)
        for other in others:
            assert other.get(f"any:{n}") == str(n).encode()


def test_set_options(client):
    assert client.set("key", "a", nx=True) is True
    assert client.set("key", "b", nx=True) is None
    assert client.set("key", "b", xx=True) is True
    assert client.set("key", "c", get=True) == b"b"
    assert client.set("key", "d", ex=100) is True
    assert 90 < client.ttl("key") <= 100
    assert client.set("key", "e", keepttl=True) is True
    assert 90 < client.ttl("key") <= 100
    assert client.getex("key", persist=True) == b"e"
    assert client.ttl("key") == -1
    assert client.setnx("key", "x") is False
    assert client.setex("key", 100, "f") is True
    assert client.psetex("key", 100_000, "g") is True
    assert client.getset("key", "h") == b"g"
    assert client.getdel("key") == b"h"
    assert client.ttl("key") == -2


def test_strings(client):
    assert client.append("key", "Hello ") == 6
    assert client.append("key", "World") == 11
    assert client.strlen("key") == 11
    assert client.getrange("key", 0, 4) == b"Hello"
    assert client.getrange("key", -5, -1) == b"World"
    assert client.setrange("key", 6, "Redis") == 11
    assert client.get("key") == b"Hello Redis"


def test_numbers(client):
    assert client.incr("n") == 1
    assert client.incrby("n", 41) == 42
    assert client.decr("n") == 41
    assert client.decrby("n", 40) == 1
    assert client.incrbyfloat("n", 0.5) == pytest.approx(1.5)
    client.set("word", "three")
    with pytest.raises(redis.ResponseError, match="not an integer"):
        client.incr("word")


def test_many_keys_across_partitions(client):
    values = {f"many:{n}": str(n).encode() for n in range(200)}
    assert client.mset(values) is True
    assert client.mget(list(values)) == list(values.values())
    assert client.exists(*values) == 200
    assert client.touch(*values) == 200
    assert client.dbsize() == 200
    assert sorted(client.keys("many:1??")) == sorted(key.encode() for key in values if len(key) == 8)
    assert {key for key in client.scan_iter(match="many:*", count=17)} == {key.encode() for key in values}
    assert client.randomkey() in {key.encode() for key in values}
    assert client.unlink(*values) == 200
    assert client.dbsize() == 0


def test_multi_key_writes_of_one_slot(client):
    assert client.msetnx({"{a}1": 1, "{a}2": 2}) is True
    assert client.msetnx({"{a}2": 3, "{a}3": 3}) is False
    assert client.rename("{a}1", "{a}9") is True
    assert client.renamenx("{a}9", "{a}2") is False
    assert client.copy("{a}2", "{a}8") is True
    assert client.get("{a}8") == b"2"


def test_expiry(client):
    client.set("key", "value")
    assert client.expire("key", 100) is True
    assert 0 < client.ttl("key") <= 100
    assert 0 < client.pttl("key") <= 100_000
    assert client.persist("key") is True
    assert client.expireat("key", 4_000_000_000) is True
    assert client.expiretime("key") == 4_000_000_000
    assert client.pexpireat("key", 1_000) is True
    assert client.exists("key") == 0
    client.set("short", "value", px=30)
    wait_until_gone(client, "short")


def wait_until_gone(client, key):
    """Asks until the key is gone; the server has its own clock, so the bound is in questions."""
    for _ in range(100_000):
        if client.get(key) is None:
            return
    pytest.fail("the key never expired")


def test_databases_are_apart(client, port):
    client.set("key", "zero")
    with redis.Redis(port=port, db=9) as other:
        other.flushdb()
        assert other.get("key") is None
        other.set("key", "nine")
    assert client.get("key") == b"zero"


def test_pipelines_keep_order(client):
    pipeline = client.pipeline(transaction=False)
    for n in range(1_000):
        pipeline.set(f"p:{n % 37}", n)
        pipeline.get(f"p:{n % 37}")
        pipeline.incr("p:count")
    replies = pipeline.execute()
    assert replies[1::3] == [str(n).encode() for n in range(1_000)]
    assert replies[2::3] == list(range(1, 1_001))


def test_a_large_value(client):
    value = random.Random(7).randbytes(4 * 1024 * 1024)
    client.set("large", value)
    assert client.get("large") == value


def test_a_value_over_the_limit_is_refused(client):
    # The server may close the connection while we still send, or answer first.
    with pytest.raises((redis.ResponseError, redis.ConnectionError)):
        client.set("huge", b"x" * (64 * 1024 * 1024))
    assert client.ping()


def test_errors_read_as_redis_writes_them(client):
    with pytest.raises(redis.ResponseError, match="unknown command"):
        client.execute_command("NOSUCHCOMMAND", "a")
    with pytest.raises(redis.ResponseError, match="wrong number of arguments"):
        client.execute_command("GET")
    with pytest.raises(redis.ResponseError, match="syntax error"):
        client.execute_command("SET", "a", "b", "NOSUCHOPTION")
    with pytest.raises(redis.ResponseError, match="invalid expire"):
        client.set("a", "b", ex=0)


def test_what_libraries_ask_on_connect(client):
    assert client.ping() is True
    assert client.echo("hello") == b"hello"
    assert client.client_setname("me") is True
    assert client.client_getname() in ("me", b"me")
    assert client.client_id() > 0
    assert "redis_version" in client.info()
    assert client.config_get("maxmemory") is not None
    assert len(client.command()) > 20


def test_increments_of_many_connections_add_up(cluster, client):
    def add(port):
        with redis.Redis(port=port) as mine:
            for _ in range(200):
                mine.incr("shared")

    threads = [threading.Thread(target=add, args=(cluster.ports[n % 3],)) for n in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.get("shared") == b"1800"
