"""One job of the cluster behind an executor: a thread that sends tasks and a
thread that takes results. Neither holds the executor, so that dropping it ends
them.

A future is RUNNING once it is among the first `slots` tasks that were sent and
have no result: what the cluster executes first. Behind these, a window of tasks
is on its way so that no node idles; its futures can still be cancelled, and
the cluster is told, so that what has not begun does not.
"""

import functools
import pickle
import sys
import threading
import time
import weakref
from collections import OrderedDict, deque
from concurrent.futures.process import BrokenProcessPool

from . import _http, _payload, _records, _uploads
from .errors import CannotUnpickle, Denied, Lost, NotStarted, Refused, TrineError, Unreachable

# Tasks that are on their way behind those that run, at first and at most.
FIRST_AHEAD = 64
MOST_AHEAD = 4_096
# A window holds what was finished within this time, twice over.
AHEAD_SECONDS = 0.1
# Tasks and bytes of one request.
BATCH_TASKS = 1_024
BATCH_BYTES = 2 * 1024 * 1024
# Cancelled tasks that the cluster is told of at once; of more, the oldest are dropped here alone.
MOST_CANCELLED = 65_536
# Calls with large arguments whose blobs travel before the first of them is sent.
HEAVY_AHEAD = 2 * _uploads.UPLOADERS
# A record waits at most so long for others while blobs travel.
GATHER_SECONDS = 0.005

ABRUPT = "A process in the process pool was terminated abruptly while the future was running or pending."

_threads = weakref.WeakKeyDictionary()
_interpreter_ends = False


def _python_exit():
    global _interpreter_ends
    _interpreter_ends = True
    sessions = list(_threads.items())
    for _, session in sessions:
        session.wake()
    for thread, _ in sessions:
        thread.join()


# Before the interpreter joins its threads, as concurrent.futures does it.
threading._register_atexit(_python_exit)


def interpreter_ends():
    return _interpreter_ends


class _RemoteTraceback(Exception):
    def __init__(self, tb):
        self.tb = tb

    def __str__(self):
        return self.tb


try:
    # The very class of the standard library, for those who look for it.
    from concurrent.futures.process import _RemoteTraceback  # noqa: F811
except ImportError:
    pass


class Item:
    """One call that waits to be sent."""

    __slots__ = ("future", "function", "args", "kwargs", "chunk", "pin")

    def __init__(self, future, function, args, kwargs, chunk=None, pin=None):
        self.future, self.function, self.args, self.kwargs = future, function, args, kwargs
        self.chunk, self.pin = chunk, pin


class Shared:
    """A function that many calls share: pickled once."""

    def __init__(self, function):
        self.function = function
        self.pickled = None
        self.digests = ()


class Settings:
    """What a session does not change."""

    def __init__(self, cluster, slots, strict, name="", options=None, initializer=None, initargs=(),
                 max_tasks=0, forward=True):
        self.cluster, self.slots, self.strict, self.name = cluster, slots, strict, name
        self.options, self.initializer, self.initargs = options or {}, initializer, initargs
        self.max_tasks, self.forward = max_tasks, forward


class Session:
    def __init__(self, settings):
        self.settings = settings
        self.changed = threading.Condition()
        self.queue = deque()
        # Sent and without a result: index to future, None if it was cancelled.
        self.sent = OrderedDict()
        self.waiting = deque()
        self.running = set()
        self.next_index = 0
        self.shutdown = False
        self.collected = False
        self.broken = None
        self.job = None
        self.over = False
        self.threads = []
        self._ahead = FIRST_AHEAD
        self._finished = deque()
        # Tasks whose futures were cancelled after they were sent.
        self._cancelled = deque(maxlen=MOST_CANCELLED)
        self._blobs = _uploads.Known()
        self._session_digest = b""

    # What executors call.

    def put(self, item):
        with self.changed:
            self.check()
            self.queue.append(item)
            if not self.threads:
                self._start()
            self.changed.notify_all()

    def check(self):
        """Raises what a call to submit has to raise now. The lock is held."""
        if self.broken is not None:
            raise self.broken_error()
        if self.shutdown:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if _interpreter_ends:
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    def broken_error(self):
        kind, text = self.broken
        return kind(text)

    def wake(self, *_):
        with self.changed:
            self.changed.notify_all()

    def drop(self, *_):
        """The executor is gone."""
        with self.changed:
            self.collected = True
            self.changed.notify_all()

    def stop(self, wait, cancel):
        with self.changed:
            self.shutdown = True
            futures = []
            if cancel:
                futures = [future for index, future in self.sent.items() if future and index not in self.running]
                futures += [item.future for item in self.queue]
                # What slots are free for counts as running, though it may not be sent yet.
                del futures[: max(0, self.settings.slots - len(self.running))]
            self.changed.notify_all()
        for future in futures:
            future.cancel()
        if cancel:
            with self.changed:
                self._drop_cancelled()
                self.changed.notify_all()
        if wait:
            for thread in self.threads:
                if thread is not threading.current_thread():
                    thread.join()

    def abort(self, text):
        """Cancels the job, what runs too."""
        self._break(TrineError, text)

    # Both threads.

    def _start(self):
        sender = threading.Thread(target=self._send_all, name="trine-sender", daemon=True)
        taker = threading.Thread(target=self._take_all, name="trine-taker", daemon=True)
        self.threads = [sender, taker]
        for thread in self.threads:
            _threads[thread] = self
            thread.start()

    def _ending(self):
        return self.shutdown or self.collected or _interpreter_ends or self.broken is not None

    def _break(self, kind, text, cause=None):
        with self.changed:
            if self.broken is None:
                self.broken = (kind, text)
            futures = [item.future for item in self.queue]
            futures += [future for future in self.sent.values() if future is not None]
            self.queue.clear()
            self.sent.clear()
            self.waiting.clear()
            self.running.clear()
            self.changed.notify_all()
        for future in futures:
            error = kind(text)
            if cause:
                error.__cause__ = _RemoteTraceback('\n"""\n%s"""' % cause)
            _finish(future, error=error)

    def _drop_cancelled(self):
        """Forgets futures that were cancelled after they were sent. The lock is held."""
        for index, future in self.sent.items():
            if future is not None and index not in self.running and future.cancelled():
                future.set_running_or_notify_cancel()
                self.sent[index] = None

    # The thread that sends.

    def _send_all(self):
        connection = _http.Connection(self.settings.cluster)
        uploaders = _uploads.Uploaders(self.settings.cluster, self._record)
        try:
            while True:
                items = self._next_items()
                if items is None:
                    break
                self._tell_cancelled(connection)
                if items:
                    self._send(connection, uploaders, items)
                del items
            self._tell_cancelled(connection)
        except BaseException as error:
            self._break(*_told(error))
        finally:
            self._end(connection)
            uploaders.close()

    def _window(self):
        settings = self.settings
        return settings.slots if settings.strict else settings.slots + self._ahead

    def _next_items(self):
        """Calls to be sent now, none if only something is to be told; None when there will be no more."""
        with self.changed:
            while True:
                if self.broken is not None:
                    return None
                if self._cancelled:
                    return []
                room = self._window() - len(self.sent)
                if self.queue and room > 0:
                    count = min(room, BATCH_TASKS, len(self.queue))
                    return [self.queue.popleft() for _ in range(count)]
                if self._ending() and not self.queue and all(future is None for future in self.sent.values()):
                    return None
                self.changed.wait()

    def _was_cancelled(self, index, future):
        """A future that was sent is over: by cancelling it, perhaps. Called in any thread."""
        if not future.cancelled():
            return
        with self.changed:
            if index in self.sent and index not in self.running:
                self._cancelled.append(index)
                self.changed.notify_all()

    def _tell_cancelled(self, connection):
        with self.changed:
            tasks = list(self._cancelled)
            self._cancelled.clear()
        if tasks:
            try:
                connection.ask("POST", "/v1/jobs/%d/tasks/cancel" % self.job, {"tasks": tasks})
            except Refused:
                # The job is over.
                pass

    def _send(self, connection, uploaders, items):
        items.reverse()
        heavy = len(items) > 1 and any(map(_is_heavy, items))
        # Calls of which records are being made, in their order.
        making = deque()
        records, futures, length, since = [], [], 0, time.monotonic()
        try:
            if self.job is None:
                self._create(connection)
            while items or making:
                while heavy and items and len(making) < HEAVY_AHEAD:
                    record = uploaders.begin(items[-1])
                    making.append((items.pop().future, record))
                if making:
                    length += self._prepare(*making.popleft(), records, futures)
                else:
                    item = items.pop()
                    make = functools.partial(self._record, connection, item)
                    length += self._prepare(item.future, make, records, futures)
                    del item, make
                last = not (items or making)
                late = heavy and time.monotonic() >= since + GATHER_SECONDS
                if records and (last or late or length >= BATCH_BYTES):
                    self._append(connection, records, futures)
                    records, length, since = [], 0, time.monotonic()
        except BaseException:
            with self.changed:
                # Whoever ends the session ends these, too.
                self.queue.extend(items)
                futures += [future for future, _ in making]
                self.queue.extend(Item(future, None, (), {}) for future in futures)
            raise

    def _prepare(self, future, make, records, futures):
        """Takes the record that `make` gives; how long it is. Nothing here outlives the call that holds its
        function or its future."""
        if future.cancelled():
            future.set_running_or_notify_cancel()
            return 0
        try:
            records.append(make())
        except (Denied, Unreachable):
            futures.append(future)
            raise
        except BaseException as error:
            # As the standard library has it: what cannot be pickled fails alone.
            _finish(future, error=error)
            return 0
        futures.append(future)
        return len(records[-1])

    def _append(self, connection, records, futures):
        with self.changed:
            first = self.next_index
            if self.broken is not None:
                raise self.broken_error()
            futures.reverse()
            while futures:
                # Popped here, so that nothing else holds a future when its result comes.
                self.sent[self.next_index] = futures.pop()
                self.waiting.append(self.next_index)
                self.next_index += 1
            self._mark()
            watched = [(index, self.sent[index]) for index in range(first, self.next_index)]
        path = "/v1/jobs/%d/tasks?after=%d" % (self.job, first)
        connection.ask("POST", path, b"".join(records), kind="application/octet-stream")
        # Only now: the cluster does not know tasks that it has not got.
        while watched:
            index, future = watched.pop()
            if future is not None:
                future.add_done_callback(functools.partial(self._was_cancelled, index))
            del future

    def _mark(self):
        """The first `slots` tasks without a result run. The lock is held."""
        while self.waiting and len(self.running) < self.settings.slots:
            index = self.waiting.popleft()
            future = self.sent.get(index)
            if future is None:
                continue
            if future.set_running_or_notify_cancel():
                self.running.add(index)
            else:
                self.sent[index] = None

    def _create(self, connection):
        settings = self.settings
        body = {"python": {"version": _payload.version(), "initializer": None}}
        if settings.initializer is not None:
            blobs = _payload.Blobs(functools.partial(self._blobs.name, connection))
            pickled = _payload.dumps((settings.initializer, settings.initargs), blobs)
            self._session_digest = blobs.put(pickled)
            self._session_blobs = blobs.digests
            body["python"]["initializer"] = list(self._session_digest)
        spec = dict(settings.options, name=settings.name, body=body)
        job = connection.ask("POST", "/v1/jobs", spec)["id"]
        with self.changed:
            self.job = job
            self.changed.notify_all()

    def _record(self, connection, item):
        blobs = _payload.Blobs(functools.partial(self._blobs.name, connection))
        if self._session_digest:
            blobs.digests.extend(self._session_blobs)
        if isinstance(item.function, Shared):
            shared = item.function
            if shared.pickled is None:
                own = _payload.Blobs(functools.partial(self._blobs.name, connection))
                pickled = _payload.dump_function(shared.function, own)
                # Several threads may come here: the digests are there before they are looked for.
                shared.digests, shared.pickled = own.digests, pickled
            function = shared.pickled
            blobs.digests.extend(digest for digest in shared.digests if digest not in blobs.digests)
        else:
            function = _payload.dump_function(item.function, blobs)
        if item.chunk is not None:
            arguments, flags = _payload.dump_chunk(item.chunk, blobs), _payload.CHUNK
        else:
            arguments, flags = _payload.dump_arguments(item.args, item.kwargs, blobs), 0
        payload = _payload.encode(function, arguments, self._session_digest, self.settings.max_tasks, flags)
        if not blobs.digests and item.pin is None:
            return _records.PLAIN_CALL.encode(payload)
        head = {"python": {"blobs": [digest.hex() for digest in blobs.digests]}}
        if item.pin is not None:
            head["pin"] = item.pin
        return _records.encode(head, payload)

    def _end(self, connection):
        """Closes or cancels the job, and lets the other thread end."""
        with self.changed:
            if self.job is None:
                self.over = True
            verb = "cancel" if self.broken is not None or self.sent else "close"
            self.changed.notify_all()
        if self.job is not None:
            try:
                connection.ask("POST", "/v1/jobs/%d/%s" % (self.job, verb), {})
            except (TrineError, OSError):
                # The job stays open; nobody waits for it any more.
                with self.changed:
                    self.over = True
                    self.changed.notify_all()
                if self._stream is not None:
                    self._stream.interrupt()
        connection.close()

    # The thread that takes results.

    _stream = None

    def _take_all(self):
        with self.changed:
            while self.job is None and not self.over:
                self.changed.wait()
            if self.over:
                return
        connection = self._stream = _http.Connection(self.settings.cluster)
        taken = 0
        try:
            while not self.over:
                taken, ended = self._take_stream(connection, taken)
                if ended:
                    break
            if any(future is not None for future in self.sent.values()):
                self._break(TrineError, "job %d was cancelled" % self.job)
        except BaseException as error:
            if not self.over:
                self._break(*_told(error))
        finally:
            with self.changed:
                self.over = True
                self.changed.notify_all()
            connection.close()

    def _take_stream(self, connection, taken):
        """Takes results from the `taken`-th on; how many are taken now, and whether there will be no more."""
        answer = connection.stream("/v1/jobs/%d/results?from=%d" % (self.job, taken))
        decoder = _records.Decoder()
        try:
            while True:
                piece = answer.piece()
                if not piece:
                    return taken, True
                results = list(decoder.feed(piece))
                taken += len(results)
                if results:
                    self._take(connection, results)
        except _http._BROKEN as error:
            if isinstance(error, (Denied, Refused)) or self.over:
                raise
            connection.close()
            return taken, False

    def _take(self, connection, results):
        now = time.monotonic()
        self._finished.append((now, len(results)))
        while self._finished[0][0] < now - AHEAD_SECONDS:
            self._finished.popleft()
        self._ahead = max(FIRST_AHEAD, min(MOST_AHEAD, 2 * sum(count for _, count in self._finished)))
        with self.changed:
            ended = [self._popped(head["index"]) for head, _ in results]
            self._mark()
            # The sender looks only for room: whoever waits for a result needs the interpreter now.
            if self.queue or self._ending():
                self.changed.notify_all()
        ended.reverse()
        try:
            for head, body in results:
                future, was_running = ended.pop()
                self._result(head, body, future, was_running)
                del future
        except BaseException as error:
            # Nothing else knows of them any more.
            for future, _ in ended:
                _finish(future, error=_told(error)[0](_told(error)[1]))
            raise

    def _popped(self, index):
        """The future of a task that has ended, and whether it counted as running. The lock is held."""
        future, was_running = self.sent.pop(index, None), index in self.running
        self.running.discard(index)
        return future, was_running

    def _result(self, head, body, future, was_running):
        index = head["index"]
        outputs = _outputs(head, body)
        if self.settings.forward:
            _forward(outputs)
        if future is None or not was_running and not future.set_running_or_notify_cancel():
            return
        outcome = head["outcome"]
        kind, detail = (outcome, {}) if isinstance(outcome, str) else next(iter(outcome.items()))
        where = "task %d on node %s" % (index, head.get("node"))
        if kind in ("value", "raised"):
            try:
                value = outputs["value"]
                if isinstance(value, dict):
                    fetch = _http.Connection(self.settings.cluster)
                    value = fetch.bytes("/v1/blobs/%s?node=%s" % (value["hash"], head.get("node")))
                    fetch.close()
            except (TrineError, OSError) as error:
                _finish(future, error=error)
                return
            if kind == "value":
                self._value(future, value)
            else:
                self._raised(future, value, where)
        elif kind in ("exited", "signaled", "killed"):
            how = {"exited": "exit code %s" % detail.get("code"), "signaled": "signal %s" % detail.get("signal")}
            text = "%s (%s: %s)" % (ABRUPT, where, how.get(kind) or detail.get("reason"))
            _finish(future, error=BrokenProcessPool(text))
            self._break(BrokenProcessPool, text)
        elif kind == "timed_out":
            _finish(future, error=TimeoutError("%s ran longer than its job allows and was killed" % where))
        elif kind == "not_started":
            _finish(future, error=NotStarted("%s: %s" % (where, detail.get("why"))))
        elif kind == "lost":
            _finish(future, error=Lost("%s: its workers were lost" % where))
        else:
            _finish(future, error=TrineError("%s: %s" % (where, kind)))

    def _value(self, future, value):
        try:
            value = pickle.loads(value)
        except BaseException as error:
            _finish(future, error=_cannot(error))
        else:
            _finish(future, value)

    def _raised(self, future, value, where):
        kind, rest = value[:1], value[1:]
        if kind == b"I":
            import logging

            text = rest.decode("utf-8", "replace")
            logging.getLogger("concurrent.futures").critical("Exception in initializer:\n%s", text)
            told = "A process in the process pool was terminated abruptly: its initializer failed (%s)" % where
            _finish(future, error=BrokenProcessPool(told))
            self._break(BrokenProcessPool, told, text)
        elif kind == b"U":
            text = rest.decode("utf-8", "replace")
            error = CannotUnpickle("%s cannot take the call out of its pickle: %s%s"
                                   % (where, text.strip().rpartition("\n")[2], _import_hint(text)))
            error.__cause__ = _RemoteTraceback('\n"""\n%s"""' % text)
            _finish(future, error=error)
        else:
            length = int.from_bytes(rest[:4], "little")
            text = rest[4 : 4 + length].decode("utf-8", "replace")
            try:
                error = pickle.loads(rest[4 + length :])
                if not isinstance(error, BaseException):
                    raise TypeError("no exception")
            except BaseException as second:
                error = _cannot(second)
            error.__cause__ = _RemoteTraceback('\n"""\n%s"""' % text)
            _finish(future, error=error)


def _is_heavy(item):
    return item.chunk is None and _payload.is_heavy(item.args, item.kwargs)


def _told(error):
    """What ends a session, and its text."""
    if isinstance(error, (TrineError, BrokenProcessPool)):
        return type(error), str(error)
    return BrokenProcessPool, "the executor cannot go on: %r" % error


def _cannot(error):
    told = CannotUnpickle("the result cannot be taken out of its pickle here: %r" % error)
    told.__cause__ = error if isinstance(error, Exception) else None
    return told


def _import_hint(text):
    if "ModuleNotFoundError" not in text and "ImportError" not in text:
        return ""
    return " (install the module for the interpreter of the nodes, or send it along: cloudpickle.register_pickle_by_value(module))"


def _finish(future, value=None, error=None):
    """Sets a future that may be pending, running, cancelled, or forgotten."""
    if future is None:
        return
    try:
        if future.cancelled():
            future.set_running_or_notify_cancel()
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)
    except Exception:
        # Cancelled, or notified of it, a moment ago.
        pass


def _outputs(head, body):
    """What a task wrote and returned, by name: bytes, or where they are kept."""
    outputs, at = {}, 0
    for name in ("stdout", "stderr", "value"):
        output = head.get(name) or {"inline": 0}
        if "inline" in output:
            outputs[name] = body[at : at + output["inline"]]
            at += output["inline"]
        else:
            outputs[name] = output["kept"]
    return outputs


def _forward(outputs):
    """What a function printed appears here, too."""
    for name in ("stdout", "stderr"):
        written, stream = outputs[name], getattr(sys, name)
        if not written or stream is None:
            continue
        if isinstance(written, dict):
            text = "[%d bytes of output are kept at the node]\n" % written["bytes"]
        else:
            text = written.decode("utf-8", "replace")
        try:
            stream.write(text)
            stream.flush()
        except (OSError, ValueError):
            pass
