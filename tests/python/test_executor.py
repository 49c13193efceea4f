"""Python functions on three real nodes, through the package `trine`."""

import os
import socket
import subprocess
import time
from concurrent.futures import wait
from concurrent.futures.process import BrokenProcessPool

import pytest
import trine
from nodes import Nodes

LIMIT = 60


def token(folder):
    with open(os.path.join(folder, "admin.token")) as file:
        return file.read().strip()


@pytest.fixture(params=[1, 2, 3], ids=["node1", "node2", "node3"])
def executor(cluster, request):
    """On each node in turn."""
    folder = os.path.join(cluster.data, "node%d" % request.param)
    with trine.Executor("127.0.0.1:%d" % cluster.admin[request.param - 1], token=token(folder)) as executor:
        yield executor


@pytest.fixture
def first(cluster):
    return {"address": "127.0.0.1:%d" % cluster.admin[0], "token": token(os.path.join(cluster.data, "node1"))}


def test_one_line_of_the_textbook(executor):
    assert executor.submit(lambda: "task result").result(LIMIT) == "task result"


def test_map_keeps_the_order(executor):
    assert list(executor.map(lambda x: x * x, range(500))) == [x * x for x in range(500)]
    assert list(executor.map(pow, range(50), range(50), chunksize=7)) == [x**x for x in range(50)]
    assert list(executor.map(abs, range(-40, 0), buffersize=3)) == list(range(40, 0, -1))


def test_every_node_is_called_once(executor):
    called = executor.run_on_all(os.getpid)
    assert len(called) == 3 and len(set(called.values())) == 3


def test_large_arguments_and_values(executor):
    text = os.urandom(300_000)
    assert executor.submit(lambda b: b[::-1], text).result(LIMIT) == text[::-1]


def test_an_exception_has_the_traceback_of_the_node(executor):
    with pytest.raises(ZeroDivisionError) as caught:
        executor.submit(lambda: 1 / 0).result(LIMIT)
    assert "1 / 0" in str(caught.value.__cause__)


def test_what_is_printed_appears_here(executor, capfd):
    executor.submit(print, "over there").result(LIMIT)
    assert "over there" in capfd.readouterr().out


def test_a_module_that_nodes_lack_is_named(executor, tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("def f(): pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import only_here

    with pytest.raises(trine.CannotUnpickle, match="only_here.*register_pickle_by_value"):
        executor.submit(only_here.f).result(LIMIT)


def test_a_function_that_ends_its_interpreter_breaks_the_executor(first):
    with trine.Executor(**first) as executor:
        with pytest.raises(BrokenProcessPool, match="exit code 3"):
            executor.submit(os._exit, 3).result(LIMIT)
        with pytest.raises(BrokenProcessPool):
            executor.submit(abs, 1)
    with trine.Executor(**first) as executor:
        assert executor.submit(abs, -1).result(LIMIT) == 1


def test_another_python_and_a_missing_one_are_clear_errors(first):
    with trine.Executor(**first, options={"env": [["TRINE_PYTHON", "no-such-python"]]}) as executor:
        with pytest.raises(trine.NotStarted, match="no-such-python"):
            executor.submit(abs, -1).result(LIMIT)


def test_a_wrong_credential_is_refused(first):
    with pytest.raises(trine.Denied):
        trine.Executor(first["address"], token="wrong")


def test_nobody_there_is_said(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(trine.Unreachable, match=str(port)):
        trine.Executor("127.0.0.1:%d" % port, token="any")


def test_the_credential_is_found_by_itself(cluster, first, monkeypatch):
    monkeypatch.setenv("TRINE_TOKEN_FILE", os.path.join(cluster.data, "node1", "admin.token"))
    with trine.Executor(first["address"]) as executor:
        assert executor.submit(abs, -1).result(LIMIT) == 1


def test_a_user_with_a_right_on_jobs_sees_its_own_only(cluster, first):
    program, socket_of = os.environ["TRINE"], ["--data", os.path.join(cluster.data, "node1")]
    made = subprocess.run([program, "token", "add", "runner", "--allow", "jobs:mine*", *socket_of],
                          check=True, capture_output=True, text=True)
    secret = made.stdout.split()[-1]
    with trine.Executor(first["address"], token=secret, name="mine-1") as executor:
        assert executor.submit(abs, -1).result(LIMIT) == 1
    with trine.Executor(first["address"], token=secret, name="theirs") as executor:
        with pytest.raises(trine.Denied, match="theirs"):
            executor.submit(abs, -1).result(LIMIT)


def test_a_cancelled_call_that_was_sent_does_not_begin(first, tmp_path):
    """Behind the calls that run is a window of calls that were sent; of those, the cancelled ones never run."""
    def mark(folder, number):
        open(os.path.join(folder, str(number)), "w").close()

    with trine.Executor(**first) as executor:
        slots = executor._max_workers
        gate = tmp_path / "gate"

        def wait_for(path):
            while not os.path.exists(path):
                time.sleep(0.01)

        held = [executor.submit(wait_for, str(gate)) for _ in range(slots)]
        marks = [executor.submit(mark, str(tmp_path), number) for number in range(20)]
        session = executor._session
        while len(session.sent) < slots + 20:
            time.sleep(0.01)
        cancelled = [future for future in marks if future.cancel()]
        assert len(cancelled) == 20
        # They have results in the cluster, though none has run.
        deadline = time.monotonic() + LIMIT
        while any(index in session.sent for index in range(slots, slots + 20)):
            assert time.monotonic() < deadline, "the cluster was not told"
            time.sleep(0.01)
        gate.touch()
        wait(held, timeout=LIMIT)
        assert executor.submit(abs, -1).result(LIMIT) == 1
    assert os.listdir(tmp_path) == ["gate"]


def test_calls_travel_over_tls_and_strangers_are_not_trusted(tmp_path, monkeypatch):
    with Nodes("--tls", "admin=auto", count=2) as nodes:
        trusted = tmp_path / "trusted.pem"
        papers = [os.path.join(nodes.folder(n), "tls", "certificate.pem") for n in range(2)]
        trusted.write_text("".join(open(paper).read() for paper in papers))
        where = ["https://127.0.0.1:%d" % port for port in nodes.admin]
        secrets = [token(nodes.folder(n)) for n in range(2)]
        with pytest.raises(trine.Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
            trine.Executor(where[0], token=secrets[0])
        monkeypatch.setenv("TRINE_CA_FILE", str(trusted))
        for address, secret in zip(where, secrets):
            with trine.Executor(address, token=secret) as executor:
                data = os.urandom(100_000)
                assert executor.submit(lambda b: b[::-1], data).result(LIMIT) == data[::-1]


def test_a_lost_node_only_retries():
    with Nodes() as nodes:
        secret = token(nodes.folder(0))
        with trine.Executor("127.0.0.1:%d" % nodes.admin[0], token=secret) as executor:
            begun = time.monotonic()
            futures = [executor.submit(lambda value: (time.sleep(0.3), value)[1], value) for value in range(40)]
            wait(futures[:6], timeout=LIMIT)
            nodes.kill(2)
            assert [future.result(LIMIT) for future in futures] == list(range(40))
            assert time.monotonic() - begun < LIMIT
