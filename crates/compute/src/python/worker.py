"""One warm interpreter of a Trine node: takes tasks from the node over the
socket that is its standard input, calls functions, sends back what became of
them. The node starts it with `python3 -c` and kills it with its process group.

Frames, both ways (the drawing stands in `python/frame.rs`): length of the rest
as u32, little endian; one byte for the kind; the rest.

It needs nothing but the standard library and cloudpickle.
"""

import sys

# The working directory is a task's: nothing may be imported from it by accident.
sys.path[:] = [entry for entry in sys.path if entry]


def _trine_serve():
    import array
    import json
    import mmap
    import os
    import pickle
    import select
    import signal
    import socket
    import struct
    import traceback
    import types
    from collections import OrderedDict

    try:
        import cloudpickle
    except ImportError:
        cloudpickle = None

    # Functions that are kept unpickled, and how long a pickle of one may be.
    MAX_KEPT_FUNCTIONS = 64
    MAX_KEPT_FUNCTION_BYTES = 64 * 1024
    # Large arguments that are kept between tasks.
    MAX_KEPT_BLOB_BYTES = 128 * 1024 * 1024
    # How many: each holds a file open, and functions want some, too.
    MAX_KEPT_BLOBS = 256
    # Longest frame.
    MAX_FRAME_BYTES = 2**31
    # Flag of a task: its arguments are many, the function is called for each.
    CHUNK = 1
    # Flag of a reply: this interpreter takes no further task.
    RETIRING = 1

    channel = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    reader = channel.makefile("rb", 64 * 1024)
    def watch():
        """Ends the whole process group when the node is gone, whatever runs then.

        By a process of its own that no call can hold up, and that is no child
        of this one. It must not outlive this one either: it has its socket open.
        """
        living, held = os.pipe()
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            os.close(living)
            return
        try:
            if os.fork() == 0:
                os.close(held)
                os.dup2(0, 1)
                os.dup2(0, 2)
                closed = select.poll()
                closed.register(channel, 0)
                closed.register(living, 0)
                if any(fd == channel.fileno() for fd, _ in closed.poll()):
                    os.killpg(0, signal.SIGKILL)
        finally:
            os._exit(0)

    watch()

    def gone():
        os._exit(0)

    def take():
        head = reader.read(5)
        if len(head) < 5:
            gone()
        length, kind = struct.unpack("<Ic", head)
        body = reader.read(length - 1)
        if len(body) < length - 1:
            gone()
        return kind, body

    def receive(length):
        """So many bytes from the socket itself, and the descriptors that came with them."""
        data, handed = b"", array.array("i")
        while len(data) < length:
            space = socket.CMSG_SPACE(handed.itemsize)
            piece, control, _, _ = channel.recvmsg(length - len(data), space, socket.MSG_CMSG_CLOEXEC)
            if not piece:
                gone()
            data += piece
            for level, kind, held in control:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    handed.frombytes(held[: len(held) - len(held) % handed.itemsize])
        return data, handed

    def take_blob():
        """Hash and bytes of a blob, or nothing. The node sends only what it is asked for: nothing of it is in `reader`."""
        head, handed = receive(5)
        _, kind = struct.unpack("<Ic", head)
        if kind != b"F":
            return None
        body, more = receive(40)
        (file,) = handed + more
        (length,) = struct.unpack_from("<Q", body, 32)
        try:
            # Its pages are the node's: nothing is copied.
            data = mmap.mmap(file, length, prot=mmap.PROT_READ) if length else b""
        except OSError:
            # No more files may be open, or its file system maps none.
            data = read_all(file, length)
        finally:
            os.close(file)
        return body[:32], data

    def read_all(file, length):
        parts, at = [], 0
        while at < length:
            parts.append(os.pread(file, length - at, at))
            if not parts[-1]:
                raise EOFError("an argument is shorter than its node said")
            at += len(parts[-1])
        return b"".join(parts)

    def send(kind, *parts):
        length = 1 + sum(len(part) for part in parts)
        head = struct.pack("<Ic", length, kind)
        try:
            if length < 64 * 1024:
                channel.sendall(b"".join((head, *parts)))
            else:
                channel.sendall(head)
                for part in parts:
                    channel.sendall(part)
        except OSError:
            gone()

    blobs = OrderedDict()
    functions = OrderedDict()
    counts = {"blob bytes": 0, "tasks": 0}
    initialized = set()

    def load_blob(digest):
        return pickle.loads(blobs[digest])

    # Pickles of clients name this function for large arguments.
    door = types.ModuleType("_trine_worker")
    door.blob = load_blob
    load_blob.__module__, load_blob.__qualname__, load_blob.__name__ = "_trine_worker", "blob", "blob"
    sys.modules["_trine_worker"] = door

    def obtain(digests):
        """Asks for the blobs that are not here; False if the node has not all of them."""
        missing = [digest for digest in digests if digest not in blobs]
        for digest in digests:
            if digest in blobs:
                blobs.move_to_end(digest)
        if missing:
            send(b"N", *missing)
            for _ in missing:
                blob = take_blob()
                if blob is None:
                    return False
                blobs[blob[0]] = blob[1]
                counts["blob bytes"] += len(blob[1])
        for digest in list(blobs):
            if counts["blob bytes"] <= MAX_KEPT_BLOB_BYTES and len(blobs) <= MAX_KEPT_BLOBS:
                break
            if digest not in digests:
                counts["blob bytes"] -= len(blobs.pop(digest))
        return True

    def function(pickled):
        known = functions.get(pickled)
        if known is not None:
            functions.move_to_end(pickled)
            return known
        loaded = pickle.loads(pickled)
        plain = isinstance(loaded, (types.FunctionType, types.BuiltinFunctionType, type))
        if plain and len(pickled) <= MAX_KEPT_FUNCTION_BYTES and not getattr(loaded, "__closure__", None):
            functions[pickled] = loaded
            if len(functions) > MAX_KEPT_FUNCTIONS:
                functions.popitem(last=False)
        return loaded

    def dumps(value):
        try:
            return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
        except Exception:
            # By value, for what was defined in the client's own script.
            return cloudpickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)

    def raised(error):
        """What an `X` reply holds: the text of the traceback, and the exception."""
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        try:
            pickled = dumps(error)
        except BaseException as second:
            text += "\nThe exception itself cannot be sent: " + repr(second)
            pickled = b""
        encoded = text.encode("utf-8", "replace")
        return (struct.pack("<I", len(encoded)), encoded, pickled)

    def text_of(error):
        return "".join(traceback.format_exception(type(error), error, error.__traceback__)).encode("utf-8", "replace")

    def initialize(session):
        """Runs the initializer in the blob of this hash once; what to reply if that fails."""
        if session in initialized:
            return None
        try:
            initializer, arguments = load_blob(session)
            initializer(*arguments)
        except BaseException as error:
            return (b"I", text_of(error))
        initialized.add(session)
        return None

    def call(chunk, session, pickled_function, pickled_arguments):
        """Calls the function, for each of a chunk's arguments; kind and parts of the reply."""
        if session:
            failed = initialize(session)
            if failed:
                return failed
        try:
            called = function(pickled_function)
            args, kwargs = pickle.loads(pickled_arguments)
        except BaseException as error:
            return (b"U", text_of(error))
        try:
            value = [called(*each) for each in args] if chunk else called(*args, **kwargs)
        except BaseException as error:
            return (b"X", *raised(error))
        del called, args, kwargs
        try:
            return (b"V", dumps(value))
        except BaseException as error:
            return (b"X", *raised(error))

    def flush():
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except Exception:
                pass

    hello = {
        "python": list(sys.version_info[:3]),
        "executable": sys.executable,
        "cloudpickle": getattr(cloudpickle, "__version__", None),
    }
    sys.argv = [""]
    send(b"H", json.dumps(hello).encode())

    while True:
        kind, body = take()
        if kind != b"T":
            continue
        (count,) = struct.unpack_from("<H", body)
        digests = [bytes(body[at : at + 32]) for at in range(2, 2 + 32 * count, 32)]
        payload = memoryview(body)[2 + 32 * count :]
        _, _, _, flags, limit, session_length, function_length = struct.unpack_from("<4sBBHIII", payload)
        begin = struct.calcsize("<4sBBHIII")
        session = bytes(payload[begin : begin + session_length])
        begin += session_length
        pickled_function = bytes(payload[begin : begin + function_length])
        pickled_arguments = payload[begin + function_length :]
        if not obtain(digests):
            continue
        reply = call(flags & CHUNK, session, pickled_function, pickled_arguments)
        flush()
        counts["tasks"] += 1
        retiring = bool(limit) and counts["tasks"] >= limit or reply[0] == b"I"
        if sum(len(part) for part in reply[1:]) > MAX_FRAME_BYTES:
            reply = (b"X", *raised(ValueError("a result is at most %d bytes when pickled" % MAX_FRAME_BYTES)))
        send(reply[0], bytes([RETIRING if retiring else 0]), *reply[1:])
        del body, payload, pickled_arguments, pickled_function, reply
        if retiring:
            os._exit(0)


_trine_serve()
