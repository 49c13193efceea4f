"""`Executor`: functions on every node of a cluster, by the rules of
`concurrent.futures`."""

import itertools
import time
import weakref
from collections import deque
from concurrent import futures

from . import _http
from ._session import Item, Session, Settings, Shared


class Executor(futures.Executor):
    """Executes calls on the nodes of a Trine cluster.

    `address` is that of any node (`"127.0.0.1:7070"`), or several, of which the
    next is asked when one does not answer. The other arguments are those of
    `concurrent.futures.ProcessPoolExecutor`; without `max_workers`, as many
    calls run at once as the cluster has slots.

    `token` is a credential; without it, `TRINE_TOKEN`, `TRINE_TOKEN_FILE` or
    the token file of a node of this user. `forward_output` says whether what
    functions print appears here. `name`, and `options` such as `{"priority":
    1, "timeout_ms": 60000, "resources": {…}}`, describe the job
    (docs/jobs.md).
    """

    def __init__(self, address="127.0.0.1:7070", max_workers=None, mp_context=None, initializer=None, initargs=(), *,
                 max_tasks_per_child=None, token=None, ssl_context=None, name="", options=None, forward_output=True):
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError("max_tasks_per_child must be an integer")
            if max_tasks_per_child <= 0:
                raise ValueError("max_tasks_per_child must be >= 1")
        self._cluster = _http.Cluster(address, token, ssl_context)
        slots = self._slots()
        self._max_workers = max_workers or slots
        self._settings = Settings(
            self._cluster, self._max_workers, max_workers is not None, name, options, initializer, tuple(initargs),
            max_tasks_per_child or 0, forward_output,
        )
        self._session = Session(self._settings)
        # Without a reference to it, the threads end when the executor is gone.
        weakref.finalize(self, self._session.drop).atexit = False

    def _slots(self):
        """How many tasks of one processor the cluster executes at once; also shows that it answers."""
        connection = _http.Connection(self._cluster)
        try:
            workers = connection.ask("GET", "/v1/workers", limit=_http.CONNECT_LIMIT)
        finally:
            connection.close()
        return max(1, sum(worker["cpu_milli"] for worker in workers) // 1000)

    @property
    def _broken(self):
        """As `ProcessPoolExecutor` has it: false, or why."""
        return self._session.broken[1] if self._session.broken else False

    def submit(self, fn, /, *args, **kwargs):
        future = futures.Future()
        self._session.put(Item(future, fn, args, kwargs))
        return future

    submit.__doc__ = futures.Executor.submit.__doc__

    def map(self, fn, *iterables, timeout=None, chunksize=1, buffersize=None):
        """Returns an iterator equivalent to map(fn, *iterables).

        `chunksize` calls travel and return together. With `buffersize`, at most
        that many chunks are submitted whose results were not taken; without it,
        all iterables are read at once.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        deadline = None if timeout is None else timeout + time.monotonic()
        calls = self._calls(Shared(fn), zip(*iterables), chunksize)
        pending = deque(itertools.islice(calls, buffersize))
        # Without a generator around it, submitting would wait for the first result that is asked for.
        results = _results(pending, calls if buffersize else None, weakref.ref(self), deadline)
        return results if chunksize == 1 else _flat(results)

    def _submit_all(self, fn, calls, chunksize):
        """Submits all calls; the futures of their chunks."""
        return list(self._calls(Shared(fn), iter(calls), chunksize))

    def _calls(self, shared, arguments, chunksize):
        """Submits chunk after chunk; yields their futures."""
        session = self._session
        del self
        while True:
            if chunksize == 1:
                try:
                    args = next(arguments)
                except StopIteration:
                    return
                item = Item(futures.Future(), shared, args, {})
            else:
                chunk = list(itertools.islice(arguments, chunksize))
                if not chunk:
                    return
                item = Item(futures.Future(), shared, (), {}, chunk=chunk)
            session.put(item)
            future = item.future
            del item
            yield future
            del future

    def run_on_all(self, fn, /, *args, **kwargs):
        """Calls `fn` once on every node; a dictionary from the node's number to what it returned.

        If a call raises, so does this, when all nodes are done.
        """
        connection = _http.Connection(self._cluster)
        try:
            nodes = sorted(worker["node"] for worker in connection.ask("GET", "/v1/workers"))
        finally:
            connection.close()
        # A job of its own: it does not wait behind what was submitted before.
        session = Session(
            Settings(self._cluster, max(1, len(nodes)), False, self._settings.name, self._settings.options,
                     forward=self._settings.forward)
        )
        shared, called = Shared(fn), {}
        for node in nodes:
            called[node] = futures.Future()
            session.put(Item(called[node], shared, args, kwargs, pin=node))
        session.stop(wait=True, cancel=False)
        return {node: future.result() for node, future in called.items()}

    def shutdown(self, wait=True, *, cancel_futures=False):
        self._session.stop(wait, cancel_futures)

    shutdown.__doc__ = futures.Executor.shutdown.__doc__

    def __exit__(self, exc_type, exc_val, exc_tb):
        if exc_type is not None and issubclass(exc_type, KeyboardInterrupt):
            # Nobody waits for the results any more: what runs is killed.
            self._session.abort("interrupted")
        self.shutdown(wait=True)
        return False


def _take(future, deadline):
    """A future's result; it is cancelled if waiting for it fails."""
    try:
        try:
            return future.result(None if deadline is None else deadline - time.monotonic())
        finally:
            future.cancel()
    finally:
        # Break a reference cycle with the exception.
        del future


def _results(pending, calls, executor, deadline):
    try:
        while pending:
            if calls is not None and executor() is not None:
                pending.extend(itertools.islice(calls, 1))
            # Popped within the call, so that nothing here holds the result.
            yield _take(pending.popleft(), deadline)
    finally:
        for future in pending:
            future.cancel()


def _flat(chunks):
    for chunk in chunks:
        chunk.reverse()
        while chunk:
            yield chunk.pop()
