"""What every system is asked to execute. Its own module, which all of them
import: no system has to ship code."""

import os
import time


def nothing(_=None):
    return None


def wait(seconds):
    time.sleep(seconds)


def length(data):
    return len(data)


def where_trine():
    # The directory of a node's interpreters is the node's own.
    return os.getcwd()


def where_ray():
    import ray

    return ray.get_runtime_context().get_node_id()


def where_dask():
    import distributed

    return distributed.get_worker().name


def where_celery():
    import celery

    return celery.current_task.request.hostname


def where_pool():
    return str(os.getpid())


def here(system):
    """Which worker this is."""
    time.sleep(0.02)
    return globals()["where_" + system]()


def uneven(call):
    """Waits six times as long on the worker that is slow."""
    system, slow, seconds = call
    time.sleep(seconds * 6 if globals()["where_" + system]() == slow else seconds)
