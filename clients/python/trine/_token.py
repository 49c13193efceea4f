"""Where the credential is: what the caller gives, what the environment gives,
or the token file of a node of this user."""

import glob
import os
import stat

# Name of the token file in a data directory.
TOKEN_NAME = "admin.token"
# Data directories that commands of `trine` use unless told otherwise.
DATA = "trine-data"
DEV = "trine-dev"
# Port of the first node; the others of `trine dev` follow in steps of ten.
FIRST_PORT = 7070


def candidates(port):
    """Token files that may be the one of the node on `port`, the likeliest first."""
    data = os.environ.get("TRINE_DATA")
    if data:
        yield os.path.join(data, TOKEN_NAME)
    if port >= FIRST_PORT and (port - FIRST_PORT) % 10 == 0:
        yield os.path.join(DEV, "node%d" % ((port - FIRST_PORT) // 10 + 1), TOKEN_NAME)
    yield os.path.join(DATA, TOKEN_NAME)
    yield from sorted(glob.glob(os.path.join(DEV, "node*", TOKEN_NAME)))


def read(path):
    """The token in the file; None if it is no file of which its owner alone may read."""
    try:
        with open(path, encoding="ascii") as file:
            if os.fstat(file.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                return None
            return file.read().strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def tokens(port, given=None):
    """Credentials to try, each once, the likeliest first."""
    if given:
        return [given]
    if os.environ.get("TRINE_TOKEN"):
        return [os.environ["TRINE_TOKEN"]]
    named = os.environ.get("TRINE_TOKEN_FILE")
    if named:
        token = read(named)
        return [token] if token else []
    found = []
    for path in candidates(port):
        token = read(path)
        if token and token not in found:
            found.append(token)
    return found


HINT = (
    "give Executor(…, token=…), or set TRINE_TOKEN or TRINE_TOKEN_FILE; "
    "a node's own token is in admin.token in its data directory"
)
