"""`Pool`: what `multiprocessing.Pool` offers, on the nodes of a cluster."""

import itertools
import math
import multiprocessing
import queue
import threading

from .executor import Executor


class AsyncResult:
    """What `apply_async`, `map_async` and `starmap_async` return."""

    def __init__(self, futures, chunked, single, callback, error_callback):
        self._futures, self._chunked, self._single = futures, chunked, single
        self._callback, self._error_callback = callback, error_callback
        self._left = len(futures)
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._value, self._error = None, None
        if not futures:
            self._conclude()
        for future in futures:
            future.add_done_callback(self._one_done)

    def _one_done(self, future):
        error = _error_of(future)
        with self._lock:
            self._left -= 1
            last = self._left == 0
            if error is not None and self._error is None:
                self._error = error
                last = True
            elif self._error is not None:
                last = False
        if last:
            self._conclude()

    def _conclude(self):
        if self._error is None:
            values = [future.result() for future in self._futures]
            if self._single:
                self._value = values[0]
            else:
                self._value = list(itertools.chain.from_iterable(values)) if self._chunked else values
        told = self._callback if self._error is None else self._error_callback
        if told is not None:
            told(self._value if self._error is None else self._error)
        self._done.set()

    def ready(self):
        return self._done.is_set()

    def successful(self):
        if not self.ready():
            raise ValueError("%r not ready" % self)
        return self._error is None

    def wait(self, timeout=None):
        self._done.wait(timeout)

    def get(self, timeout=None):
        if not self._done.wait(timeout):
            raise multiprocessing.TimeoutError
        if self._error is not None:
            raise self._error
        return self._value


def _error_of(future):
    return multiprocessing.ProcessError("cancelled") if future.cancelled() else future.exception()


class _Values:
    """An iterator over what futures return, with the `next(timeout)` of multiprocessing."""

    def __init__(self, futures, chunked, ordered):
        self._chunked = chunked
        self._ready = []
        if ordered:
            self._futures = iter(futures)
        else:
            self._futures = None
            self._left = len(futures)
            self._queue = queue.SimpleQueue()
            for future in futures:
                future.add_done_callback(self._queue.put)

    def __iter__(self):
        return self

    def __next__(self):
        return self.next()

    def next(self, timeout=None):
        while not self._ready:
            values = self._take(timeout)
            self._ready = list(reversed(values)) if self._chunked else [values]
        return self._ready.pop()

    def _take(self, timeout):
        if self._futures is None:
            if self._left == 0:
                raise StopIteration
            try:
                future = self._queue.get(timeout=timeout)
            except queue.Empty:
                raise multiprocessing.TimeoutError from None
            self._left -= 1
            return future.result()
        future = next(self._futures)
        try:
            return future.result(timeout)
        except TimeoutError:
            if future.done():
                raise
            self._futures = itertools.chain([future], self._futures)
            raise multiprocessing.TimeoutError from None


class Pool:
    """`multiprocessing.Pool` on the nodes of a Trine cluster.

    `processes` bounds how many calls run at once; without it, all slots of the
    cluster are used. Other keywords are those of `trine.Executor`.
    """

    def __init__(self, processes=None, initializer=None, initargs=(), maxtasksperchild=None, context=None, *,
                 address="127.0.0.1:7070", **more):
        if processes is not None and processes < 1:
            raise ValueError("Number of processes must be at least 1")
        self._executor = Executor(address, processes, None, initializer, initargs,
                                  max_tasks_per_child=maxtasksperchild, **more)
        self._processes = self._executor._max_workers
        self._closed = False

    def _check(self):
        if self._closed:
            raise ValueError("Pool not running")

    def apply(self, func, args=(), kwds={}):
        return self.apply_async(func, args, kwds).get()

    def apply_async(self, func, args=(), kwds={}, callback=None, error_callback=None):
        self._check()
        return AsyncResult([self._executor.submit(func, *args, **kwds)], False, True, callback, error_callback)

    def map(self, func, iterable, chunksize=None):
        return self.map_async(func, iterable, chunksize).get()

    def map_async(self, func, iterable, chunksize=None, callback=None, error_callback=None):
        return self._many(func, ((arg,) for arg in iterable), chunksize, callback, error_callback)

    def starmap(self, func, iterable, chunksize=None):
        return self.starmap_async(func, iterable, chunksize).get()

    def starmap_async(self, func, iterable, chunksize=None, callback=None, error_callback=None):
        return self._many(func, (tuple(args) for args in iterable), chunksize, callback, error_callback)

    def _many(self, func, calls, chunksize, callback, error_callback):
        self._check()
        calls = list(calls)
        if chunksize is None:
            chunksize = max(1, math.ceil(len(calls) / (self._processes * 4)))
        futures = self._executor._submit_all(func, calls, chunksize)
        return AsyncResult(futures, chunksize > 1, False, callback, error_callback)

    def imap(self, func, iterable, chunksize=1):
        return self._lazily(func, iterable, chunksize, ordered=True)

    def imap_unordered(self, func, iterable, chunksize=1):
        return self._lazily(func, iterable, chunksize, ordered=False)

    def _lazily(self, func, iterable, chunksize, ordered):
        self._check()
        if chunksize < 1:
            raise ValueError("Chunksize must be 1+, not %d" % chunksize)
        calls = [(arg,) for arg in iterable]
        return _Values(self._executor._submit_all(func, calls, chunksize), chunksize > 1, ordered)

    def close(self):
        self._closed = True
        self._executor.shutdown(wait=False)

    def terminate(self):
        self._closed = True
        self._executor._session.abort("the pool was terminated")

    def join(self):
        if not self._closed:
            raise ValueError("Pool is still running")
        self._executor.shutdown(wait=True)

    def __enter__(self):
        self._check()
        return self

    def __exit__(self, exc_type, exc_val, exc_tb):
        self.terminate()
