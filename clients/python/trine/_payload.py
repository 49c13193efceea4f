"""Functions and arguments into bytes, and back.

What the interpreter of a node takes (`crates/compute/src/python/`):

    +------+-------+-------+-------+-----------+--------------+-----------------+
    | TRN1 | major | minor | flags | max tasks | len(session) | len(function)   |
    +------+-------+-------+-------+-----------+--------------+-----------------+
    | session: hash of the initializer's blob, or nothing                       |
    +----------------------------------------------------------------------------+
    | pickled function | pickled (args, kwargs), or ([args, …], None) in a chunk |
    +----------------------------------------------------------------------------+

What is large travels as a blob, once: a NumPy array anywhere within the
arguments, an argument as a whole, or a function. The cluster names it by its
BLAKE3, which the standard library does not have: SHA-256 tells here what was
sent before.
"""

import io
import pickle
import struct
import sys
import types
import weakref

import cloudpickle

MAGIC = b"TRN1"
CHUNK = 1
# What is at least this long when pickled travels as a blob.
BLOB_BYTES = 64 * 1024
# Longest blob.
MAX_BLOB_BYTES = 1024 * 1024 * 1024
# Blobs that one task may name.
MAX_BLOBS = 1_024
_HEAD = struct.Struct("<4sBBHIII")
_PLAIN = frozenset((int, float, bool, str, bytes, type(None)))
PROTOCOL = pickle.HIGHEST_PROTOCOL

# A function of this name stands ready in each interpreter of a node; here it
# only gives pickles something to name.
_door = types.ModuleType("_trine_worker")


def _blob(digest):
    raise RuntimeError("a blob is taken out by the interpreter of a node")


_blob.__module__, _blob.__qualname__, _blob.__name__ = "_trine_worker", "blob", "blob"
_door.blob = _blob
sys.modules.setdefault("_trine_worker", _door)
_blob = sys.modules["_trine_worker"].blob


class _Reference:
    """Pickles as a call that takes the blob out."""

    __slots__ = ("digest",)

    def __init__(self, digest):
        self.digest = digest

    def __reduce__(self):
        return _blob, (self.digest,)


class _Pickler(cloudpickle.Pickler):
    """Puts large arrays aside."""

    def __init__(self, file, blobs):
        super().__init__(file, protocol=PROTOCOL)
        self._blobs = blobs

    def reducer_override(self, obj):
        numpy = sys.modules.get("numpy")
        if numpy is not None and type(obj) is numpy.ndarray and obj.nbytes >= BLOB_BYTES and not obj.dtype.hasobject:
            return _blob, (self._blobs.put(pickle.dumps(obj, protocol=PROTOCOL)),)
        return super().reducer_override(obj)


class Blobs:
    """The blobs of one task; `upload` brings one to the cluster unless it is there, and says its name."""

    def __init__(self, upload):
        self._upload = upload
        self.digests = []

    def put(self, data):
        if len(data) > MAX_BLOB_BYTES:
            raise ValueError("an argument of %d bytes when pickled; at most %d" % (len(data), MAX_BLOB_BYTES))
        digest = self._upload(data)
        if digest not in self.digests:
            if len(self.digests) == MAX_BLOBS:
                raise ValueError("more than %d large arguments in one call" % MAX_BLOBS)
            self.digests.append(digest)
        return digest


def dumps(obj, blobs):
    file = io.BytesIO()
    _Pickler(file, blobs).dump(obj)
    return file.getvalue()


# Functions that were pickled by their names: such a pickle stays right as long
# as the name means that function, and its module is sent by name.
_named = weakref.WeakKeyDictionary()


def _is_named(function):
    module = sys.modules.get(function.__module__)
    if module is None or getattr(module, function.__qualname__, None) is not function:
        return False
    by_value = cloudpickle.list_registry_pickle_by_value()
    return not by_value or not any(
        function.__module__ == name or function.__module__.startswith(name + ".") for name in by_value
    )


def dump_function(function, blobs):
    if type(function) is types.FunctionType and _is_named(function):
        pickled = _named.get(function)
        if pickled is None:
            pickled = dumps(function, blobs)
            # Functions of a script go by value, whatever their name.
            if pickled == _by_name(function):
                _named[function] = pickled
    else:
        pickled = dumps(function, blobs)
    if len(pickled) >= BLOB_BYTES:
        pickled = pickle.dumps(_Reference(blobs.put(pickled)), protocol=PROTOCOL)
    return pickled


def _by_name(function):
    try:
        return pickle.dumps(function, protocol=PROTOCOL)
    except Exception:
        return None


def _is_plain(args, kwargs):
    return all(type(arg) in _PLAIN for arg in args) and all(type(arg) in _PLAIN for arg in kwargs.values())


def _is_long(arg):
    return type(arg) in (str, bytes) and len(arg) >= BLOB_BYTES


def _is_large_array(arg):
    return type(arg).__module__ == "numpy" and getattr(arg, "nbytes", 0) >= BLOB_BYTES


def is_heavy(args, kwargs):
    """Whether one look tells that an argument travels as a blob."""
    return any(_is_long(arg) or _is_large_array(arg) for arg in (*args, *kwargs.values()))


def _aside(arg, blobs):
    """The argument, or what stands for it if it is large."""
    if type(arg) in _PLAIN and type(arg) not in (str, bytes):
        return arg
    pickled = pickle.dumps(arg, protocol=PROTOCOL) if type(arg) in _PLAIN else dumps(arg, blobs)
    return arg if len(pickled) < BLOB_BYTES else _Reference(blobs.put(pickled))


def dump_arguments(args, kwargs, blobs):
    # What is known to be aside is not pickled twice.
    if not any(map(_is_long, (*args, *kwargs.values()))):
        if _is_plain(args, kwargs):
            pickled = pickle.dumps((args, kwargs), protocol=PROTOCOL)
        else:
            pickled = dumps((args, kwargs), blobs)
        if len(pickled) < BLOB_BYTES:
            return pickled
    args = tuple(_aside(arg, blobs) for arg in args)
    kwargs = {name: _aside(arg, blobs) for name, arg in kwargs.items()}
    return dumps((args, kwargs), blobs)


def dump_chunk(calls, blobs):
    pickled = dumps((calls, None), blobs)
    if len(pickled) >= BLOB_BYTES:
        pickled = pickle.dumps((_Reference(blobs.put(dumps(calls, blobs))), None), protocol=PROTOCOL)
    return pickled


def encode(function, arguments, session=b"", max_tasks=0, flags=0):
    head = _HEAD.pack(
        MAGIC, sys.version_info[0], sys.version_info[1], flags, max_tasks, len(session), len(function)
    )
    return b"".join((head, session, function, arguments))


def version():
    """The interpreter that tasks need, as in `3.13`."""
    return "%d.%d" % sys.version_info[:2]
