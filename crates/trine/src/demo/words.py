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


def ask(*words):
    head = b"*%d\r\n" % len(words)
    door.sendall(head + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words))
    line = replies.readline()
    if line.startswith(b"+"):
        return line
    if line.startswith(b"$") and line != b"$-1\r\n":
        return replies.read(int(line[1:]) + 2)[:-2]
    sys.exit("%r answered %r" % (words[:2], line))


counts = Counter()
for key in sys.stdin.buffer.read().split(b"\0"):
    counts.update(ask(b"GET", key).translate(TABLE).split())
ask(b"SET", sys.argv[1].encode(), b"".join(b"%b %d\n" % pair for pair in sorted(counts.items())))
print(sum(counts.values()))
