"""Blobs on their way into the cluster, several at a time: sending one, a node's
answer to another, and pickling a third go on side by side.
"""

import collections
import contextlib
import hashlib
import queue
import threading

from . import _http

# Calls whose blobs travel side by side.
UPLOADERS = 4
# Hashes of blobs that are known to be in the cluster.
KNOWN_BLOBS = 65_536


class _Sent:
    """A blob that a thread sends, or has sent."""

    __slots__ = ("done", "name")

    def __init__(self):
        self.done, self.name = threading.Event(), None


class Known:
    """The cluster's names for what was sent before. For any thread."""

    def __init__(self):
        self._lock = threading.Lock()
        self._sent = collections.OrderedDict()

    def name(self, connection, data):
        """The cluster's name for these bytes, which travel unless they have before, or do now."""
        digest = hashlib.sha256(data).digest()
        while True:
            with self._lock:
                sent = self._sent.get(digest)
                mine = sent is None
                if mine:
                    sent = self._sent[digest] = _Sent()
                    if len(self._sent) > KNOWN_BLOBS:
                        self._sent.popitem(last=False)
                else:
                    self._sent.move_to_end(digest)
            if mine:
                return self._send(connection, data, digest, sent)
            sent.done.wait()
            if sent.name is not None:
                return sent.name

    def _send(self, connection, data, digest, sent):
        try:
            told = connection.ask("POST", "/v1/blobs", data, kind="application/octet-stream")
            sent.name = bytes.fromhex(told["hash"])
            return sent.name
        finally:
            if sent.name is None:
                # Whoever waits for it sends it.
                with self._lock:
                    if self._sent.get(digest) is sent:
                        del self._sent[digest]
            sent.done.set()


class _Pending:
    """What a thread makes; calling it waits for that."""

    __slots__ = ("_done", "_made", "_error")

    def __init__(self):
        self._done, self._made, self._error = threading.Event(), None, None

    def make(self, function, *arguments):
        try:
            self._made = function(*arguments)
        except BaseException as error:
            self._error = error
        self._done.set()

    def __call__(self):
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._made


class Uploaders:
    """Threads with a connection each, that end with the session whose they are."""

    def __init__(self, cluster, make):
        self._cluster, self._make = cluster, make
        self._calls = queue.SimpleQueue()
        self._threads = []

    def begin(self, item):
        """Has a thread make something of a call; what is returned gives it when it is called."""
        if len(self._threads) < UPLOADERS:
            thread = threading.Thread(target=self._work, name="trine-uploader", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # No more threads are to be had: those that run do it.
                if not self._threads:
                    raise
            else:
                self._threads.append(thread)
        pending = _Pending()
        self._calls.put((pending, item))
        return pending

    def close(self):
        # Nobody waits for what no thread has begun.
        with contextlib.suppress(queue.Empty):
            while True:
                self._calls.get_nowait()
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self):
        connection = _http.Connection(self._cluster)
        while True:
            call = self._calls.get()
            if call is None:
                break
            pending, item = call
            pending.make(self._make, connection, item)
            # Nothing here outlives the call.
            del call, pending, item
        connection.close()
