"""CPython's own tests of concurrent.futures with `trine.Executor` plugged in.

They are those of the Python that runs this, or of Debian's package
`libpython3.x-testsuite`; nothing of them is changed but the scripts that start a
fresh interpreter and name the executor's class: there it is put where they look
for it. Prints `test NAME ... ok`, `FAILED` or `skipped`, a line each.

`python cpython.py ADDRESS [WORD [FAMILY…]]`: the node to ask, and only tests
whose name holds WORD, of these families.
"""

import importlib
import multiprocessing
import os
import pkgutil
import sys
import unittest
from concurrent import futures

import trine

# Where Debian puts the tests of its Python.
DEBIAN = "/usr/lib/python%d.%d/test" % sys.version_info[:2]
# What a fresh interpreter does before the script of a test.
PRELUDE = "import sys; sys.path.insert(0, %r); import cpython; cpython.plug(%r)\n"


class TrineExecutor(trine.Executor):
    """With the arguments of `ProcessPoolExecutor`, in their order."""

    address = None

    def __init__(self, max_workers=None, mp_context=None, initializer=None, initargs=(), *, max_tasks_per_child=None):
        super().__init__(self.address, max_workers, mp_context, initializer, initargs,
                         max_tasks_per_child=max_tasks_per_child)

    @property
    def _executor_manager_thread(self):
        """The thread that some tests join, to see that none is left."""
        return self._session.threads[-1]


def plug(address):
    """Puts the executor where scripts of tests look for executors."""
    TrineExecutor.address = address
    TrineExecutor.__module__ = "concurrent.futures"
    futures.TrineExecutor = TrineExecutor
    tests()


def tests():
    """The module, or modules, of CPython's tests."""
    import test
    from test import support

    support.verbose = False
    if os.path.isdir(DEBIAN) and DEBIAN not in test.__path__:
        test.__path__.append(DEBIAN)
    try:
        package = importlib.import_module("test.test_concurrent_futures")
    except ModuleNotFoundError:
        sys.exit("NOT RUN: this Python came without its tests; install libpython%d.%d-testsuite" % sys.version_info[:2])
    names = [name for _, name, _ in pkgutil.iter_modules(getattr(package, "__path__", []))]
    return [package] + [importlib.import_module("test.test_concurrent_futures." + name) for name in names]


def find(modules, name):
    """What has this name in any of the modules."""
    return next((getattr(module, name) for module in modules if hasattr(module, name)), None)


# Families of tests, and the mixins that make them.
FAMILIES = [
    ("executor", "ExecutorTest"),
    ("wait", "WaitTests"),
    ("as_completed", "AsCompletedTests"),
    ("shutdown", "ExecutorShutdownTest"),
    ("shutdown", "ProcessPoolShutdownTest"),
    ("process_pool", "ProcessPoolExecutorTest"),
    ("deadlock", "ExecutorDeadlockTest"),
    ("init", "InitializerMixin"),
    ("failing_init", "FailingInitializerMixin"),
]


def suite(modules, address):
    """The tests by their names."""
    base, executor_mixin = find(modules, "BaseTestCase"), find(modules, "ExecutorMixin")
    context = multiprocessing.get_context("spawn")
    # Looked up when it is used: classes of tests travel to nodes, where the executor is not.
    executor_type = property(lambda self: futures.TrineExecutor)
    mixin = type("TrineMixin", (executor_mixin,), {"executor_type": executor_type, "get_context": lambda self: context})
    for module in modules:
        if hasattr(module, "assert_python_ok"):
            module.assert_python_ok = with_prelude(module.assert_python_ok, address)
    found, loader = {}, unittest.TestLoader()
    for family, name in FAMILIES:
        tests = find(modules, name)
        if tests is None:
            continue
        case = type("Trine" + name, (tests, mixin, base), {})
        for method in loader.getTestCaseNames(case):
            found.setdefault("%s %s" % (family, method), case(method))
    future_tests = find(modules, "FutureTests")
    for method in loader.getTestCaseNames(future_tests):
        found["future " + method] = future_tests(method)
    return found


def with_prelude(run, address):
    prelude = PRELUDE % (os.path.dirname(os.path.abspath(__file__)), address)

    def run_with_prelude(option, script, **more):
        return run(option, prelude + script, **more)

    return run_with_prelude


def main(address, word="", *families):
    plug(address)
    failed = False
    for name, test in suite(tests(), address).items():
        if word not in name or families and name.split()[0] not in families:
            continue
        result = unittest.TestResult()
        result.failfast = True
        test.run(result)
        if result.wasSuccessful():
            print("test %s ... %s" % (name, "skipped" if result.skipped else "ok"), flush=True)
            continue
        failed = True
        print("test %s ... FAILED" % name, flush=True)
        for _, text in result.errors + result.failures:
            print("\n".join("    " + line for line in text.strip().splitlines()[-12:]), flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
