"""Makes the backend known before joblib's own tests list the backends that there
are; the node to ask is named by TRINE_ADDRESS. A plugin for pytest, which prints
`test joblib NAME ... ok`, `FAILED` or `skipped`."""

import os

import joblib.parallel

from trine.joblib import NAME, TrineBackend


def backend(**options):
    return TrineBackend(os.environ["TRINE_ADDRESS"], **options)


joblib.parallel.register_parallel_backend(NAME, backend)


def pytest_runtest_logreport(report):
    if report.when == "call" or report.failed or report.skipped:
        outcome = {"passed": "ok", "failed": "FAILED", "skipped": "skipped"}[report.outcome]
        print("\ntest joblib %s ... %s" % (report.nodeid.rpartition("::")[2], outcome), flush=True)
