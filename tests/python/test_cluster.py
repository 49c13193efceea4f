"""redis-py's RedisCluster: it reads the slot map and talks to owners itself."""

import pytest
import redis
from redis.cluster import RedisCluster


@pytest.fixture
def cluster_client(port):
    client = RedisCluster(host="127.0.0.1", port=port)
    client.flushall(target_nodes=RedisCluster.RANDOM)
    yield client
    client.close()


def test_the_slot_map_covers_every_slot(cluster_client, cluster):
    slots = cluster_client.cluster_slots(target_nodes=RedisCluster.RANDOM)
    covered = sorted(slots)
    assert covered[0][0] == 0 and covered[-1][1] == 16383
    assert all(left[1] + 1 == right[0] for left, right in zip(covered, covered[1:]))
    ports = {node.port for node in cluster_client.get_nodes()}
    assert ports <= set(cluster.ports)


def test_values_come_back(cluster_client):
    for n in range(500):
        assert cluster_client.set(f"c:{n}", n)
    for n in range(500):
        assert cluster_client.get(f"c:{n}") == str(n).encode()


def test_multi_key_commands_of_one_slot(cluster_client):
    assert cluster_client.mset({"{t}a": 1, "{t}b": 2})
    assert cluster_client.mget("{t}a", "{t}b") == [b"1", b"2"]
    assert cluster_client.delete("{t}a", "{t}b") == 2


def test_keys_have_redis_slots(cluster_client):
    assert cluster_client.cluster_keyslot("foo") == 12182
    assert cluster_client.cluster_keyslot("{foo}bar") == 12182


def test_pipelines(cluster_client):
    pipeline = cluster_client.pipeline()
    for n in range(300):
        pipeline.set(f"cp:{n}", n)
    assert all(pipeline.execute())
    pipeline = cluster_client.pipeline()
    for n in range(300):
        pipeline.get(f"cp:{n}")
    assert pipeline.execute() == [str(n).encode() for n in range(300)]


def test_keys_of_two_slots_are_refused_where_redis_refuses_them(port):
    with redis.Redis(port=port) as client:
        client.set("here", 1)
        with pytest.raises(redis.exceptions.ClusterCrossSlotError):
            client.execute_command("RENAME", "here", "somewhere-else-entirely")
