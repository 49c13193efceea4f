"""Which functions travel by name, and which with their code."""

import sys
import types

import cloudpickle
import pytest

from trine import _payload


@pytest.fixture
def module():
    module = types.ModuleType("named_functions")
    exec("def twice(n): return 2 * n", module.__dict__)
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


def pickled(function):
    return _payload.dump_function(function, _payload.Blobs(None))


def test_a_name_is_sent_as_long_as_it_means_the_function(module):
    twice = module.twice
    by_name = pickled(twice)
    assert len(by_name) < 60
    assert pickled(twice) is by_name
    exec("def twice(n): return 2.0 * n", module.__dict__)
    assert len(pickled(twice)) > 60
    assert pickled(module.twice) == by_name


def test_a_module_that_travels_by_value_does_so_from_then_on(module):
    by_name = pickled(module.twice)
    cloudpickle.register_pickle_by_value(module)
    try:
        assert len(pickled(module.twice)) > 60
    finally:
        cloudpickle.unregister_pickle_by_value(module)
    assert pickled(module.twice) == by_name


def test_functions_of_a_script_are_pickled_each_time():
    main = sys.modules["__main__"]
    exec("def of_script(): return known\nknown = 1", main.__dict__)
    try:
        before = pickled(main.of_script)
        main.known = 2
        assert pickled(main.of_script) != before
    finally:
        del main.of_script, main.known
