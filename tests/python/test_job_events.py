"""What becomes of jobs, as messages: read with nats-py on one node while another takes the job."""

import asyncio
import json
import os
import subprocess

import nats

LIMIT = 60


def run(cluster, *words):
    data = os.path.join(cluster.data, "node1")
    return subprocess.run([os.environ["TRINE"], *words, "--data", data], capture_output=True, text=True, timeout=LIMIT)


def tasks(words, cluster, *arguments):
    data = os.path.join(cluster.data, "node1")
    command = [os.environ["TRINE"], "run", "--data", data, *words, ":::", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)


async def told_of(cluster, work, last):
    """Events of the one job that `work` runs, until that named `last`."""
    client = await nats.connect(f"nats://127.0.0.1:{cluster.nats[2]}")
    heard = await client.subscribe("_job.>")
    # The other nodes know of it once a message of theirs came through.
    ready = await client.subscribe("ready")
    other = await nats.connect(f"nats://127.0.0.1:{cluster.nats[0]}")
    for _ in range(100):
        await other.publish("ready", b"")
        try:
            await ready.next_msg(timeout=0.2)
            break
        except nats.errors.TimeoutError:
            continue
    await asyncio.to_thread(work)
    events = []
    while not events or events[-1][0] != last:
        message = await heard.next_msg(timeout=LIMIT)
        _, job, what = message.subject.split(".", 2)
        payload = json.loads(message.data)
        assert payload["job"] == int(job)
        events.append((what, payload))
    await other.close()
    await client.close()
    return events


def covered(events, what):
    return sorted(
        index for name, payload in events if name == what for first, last in payload["ranges"]
        for index in range(first, last + 1)
    )


def test_job_events_tell_what_becomes_of_tasks(cluster):
    work = lambda: tasks(["--name", "mine", "--retries", "2", "exit"], cluster, "0", "3", "0")
    events = asyncio.run(told_of(cluster, work, "done"))
    names = [name for name, _ in events]
    assert names[0] == "submitted" and names[-1] == "done", names
    assert covered(events, "tasks.finished") == [0, 2] and covered(events, "tasks.failed") == [1]
    assert set(covered(events, "tasks.started")) == {0, 1, 2} and covered(events, "tasks.retried") == [1]
    assert (events[-1][1]["tasks"], events[-1][1]["failed"], events[-1][1]["name"]) == (3, 1, "mine")


def test_job_events_are_few_for_many_tasks(cluster):
    many = [str(number) for number in range(2000)]
    events = asyncio.run(told_of(cluster, lambda: tasks(["true #"], cluster, *many), "done"))
    assert covered(events, "tasks.finished") == list(range(2000))
    assert len(events) < 500, len(events)


def test_job_events_of_a_cancelled_job(cluster):
    def work():
        job = tasks(["--detach", "sleep"], cluster, "600").stdout.strip()
        assert run(cluster, "job", "cancel", job).returncode == 0

    events = asyncio.run(told_of(cluster, work, "cancelled"))
    assert events[-1][1]["done"] == 0


def test_job_events_are_told_by_nodes_alone(cluster):
    async def publish():
        refused = asyncio.get_running_loop().create_future()

        async def note(error):
            if not refused.done():
                refused.set_result(str(error))

        client = await nats.connect(f"nats://127.0.0.1:{cluster.nats[0]}", error_cb=note)
        await client.publish("_job.1.done", b"{}")
        try:
            return await asyncio.wait_for(refused, LIMIT)
        finally:
            await client.close()

    refused = asyncio.run(publish())
    assert "permissions violation" in refused.lower() and "_job.1.done" in refused, refused
    told = run(cluster, "peer", "publish", "_job.1.done", "{}")
    assert told.returncode != 0 and "only nodes publish" in told.stderr
