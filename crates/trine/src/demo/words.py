# A task of the demo: counts the words of files that lie in the database, by
# their keys on standard input, and puts the counts under the key that its
# argument names. Written twice, it is the same, so that a task may run twice.
import os
import socket
import string
import sys
from collections import Counter

LETTERS = string.ascii_letters.encode()
# Everything but letters parts words; capitals count as small letters.
TABLE = bytes(ord(chr(byte).lower()) if byte in LETTERS else 32 for byte in range(256))

host, port = os.environ["TRINE_REDIS"].rsplit(":", 1)
door = socket.create_connection((host, int(port)))
replies = door.makefile("rb")


# Requests that are sent before their answers are read.
PIPELINE = 64


def request(*words):
    head = b"*%d\r\n" % len(words)
    return head + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def answer():
    line = replies.readline()
    if line.startswith(b"+"):
        return line
    if line.startswith(b"$") and line != b"$-1\r\n":
        return replies.read(int(line[1:]) + 2)[:-2]
    sys.exit("the database answered %r" % line)


counts = Counter()
keys = sys.stdin.buffer.read().split(b"\0")
for start in range(0, len(keys), PIPELINE):
    some = keys[start : start + PIPELINE]
    door.sendall(b"".join(request(b"GET", key) for key in some))
    for _ in some:
        counts.update(answer().translate(TABLE).split())
lines = b"".join(b"%b %d\n" % pair for pair in sorted(counts.items()))
door.sendall(request(b"SET", sys.argv[1].encode(), lines))
answer()
print(sum(counts.values()))
