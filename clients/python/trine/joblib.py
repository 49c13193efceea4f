"""A joblib backend, and with it one for scikit-learn:

    import joblib, trine.joblib
    trine.joblib.register()
    with joblib.parallel_config("trine", address="127.0.0.1:7070"):
        GridSearchCV(…, n_jobs=-1).fit(X, y)
"""

from __future__ import absolute_import

import threading

from joblib.parallel import register_parallel_backend
from joblib._parallel_backends import AutoBatchingMixin, ParallelBackendBase, SequentialBackend

from .executor import Executor

NAME = "trine"


class TrineBackend(AutoBatchingMixin, ParallelBackendBase):
    """Batches of joblib's calls as tasks of a cluster."""

    supports_retrieve_callback = True
    supports_return_generator = True
    supports_timeout = True
    supports_inner_max_num_threads = False
    uses_threads = False
    supports_sharedmem = False

    def __init__(self, address="127.0.0.1:7070", nesting_level=None, inner_max_num_threads=None, **options):
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._address, self._options = address, options
        self._executor = None
        self._lock = threading.Lock()

    def __reduce__(self):
        return _again, (self._address, self.nesting_level, self._options)

    def _open(self):
        with self._lock:
            if self._executor is None:
                self._executor = Executor(self._address, **self._options)
            return self._executor

    def effective_n_jobs(self, n_jobs):
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        slots = self._open()._max_workers
        if n_jobs is None:
            return 1
        return max(1, slots + 1 + n_jobs) if n_jobs < 0 else n_jobs

    def configure(self, n_jobs=1, parallel=None, prefer=None, require=None, **_):
        self.parallel = parallel
        self._open()
        return self.effective_n_jobs(n_jobs)

    def submit(self, func, callback=None):
        future = self._open().submit(func)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    apply_async = submit

    def retrieve_result_callback(self, out):
        return out.result()

    def terminate(self):
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False, cancel_futures=True)
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready=True):
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor._session.abort("joblib aborted the calls")
        if ensure_ready:
            self.configure(n_jobs=self.parallel.n_jobs, parallel=self.parallel)

    def get_nested_backend(self):
        # Within a task, one call after the other: the slots are taken.
        return SequentialBackend(nesting_level=(self.nesting_level or 0) + 1), None


def _again(address, nesting_level, options):
    return TrineBackend(address, nesting_level=nesting_level, **options)


def register(make_default=False):
    """Makes the backend known to joblib under the name `trine`."""
    register_parallel_backend(NAME, TrineBackend, make_default=make_default)
