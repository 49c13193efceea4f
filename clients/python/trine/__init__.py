"""Python functions on every node of a Trine cluster.

    import trine
    with trine.Executor("127.0.0.1:7070") as executor:
        print(list(executor.map(pow, range(10), range(10))))

`Executor` is a `concurrent.futures.Executor`. `Pool` looks like
`multiprocessing.Pool`, `trine.joblib.register()` gives joblib (and with it
scikit-learn) a backend named "trine", and `dask.compute(…, scheduler=executor)`
works as it is.

| module | what |
|---|---|
| `executor` | `Executor`: what `concurrent.futures` asks for |
| `pool` | `Pool`: what `multiprocessing` users call |
| `joblib` | the backend |
| `errors` | what can go wrong, and what to do then |
| `_session` | one job: the thread that sends tasks, the thread that takes results |
| `_payload` | functions and arguments into bytes; large ones once, by their hash |
| `_records` | the records that travel over HTTP |
| `_http` | connections to nodes, one after the other until one answers |
| `_token` | where the credential is |
"""

from .errors import CannotUnpickle, Denied, Lost, NotStarted, Refused, TrineError, Unreachable
from .executor import Executor
from .pool import Pool

__version__ = "0.1.0"
__all__ = [
    "CannotUnpickle",
    "Denied",
    "Executor",
    "Lost",
    "NotStarted",
    "Pool",
    "Refused",
    "TrineError",
    "Unreachable",
]
