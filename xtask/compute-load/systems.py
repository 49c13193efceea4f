"""The systems behind one set of words: `call` executes a function once,
`each` once per argument, all submitted one by one, as their users do it.
Each has three workers with two slots, or what comes closest."""

import os
import signal
import subprocess
import sys
import tempfile
import time

import functions

WORKERS, SLOTS = 3, 2
HERE = os.path.dirname(os.path.abspath(__file__))


class System:
    """What all of them can."""

    name = ""
    #: Whether one of its workers can be killed alone.
    has_workers = True

    def call(self, name, argument):
        return self.each(name, [argument])[0]

    def each(self, name, arguments, halfway=None, limit=60.0):
        """Results in order, `Missing` for those that did not come within the
        limit; `halfway` is called when half of them are here."""
        raise NotImplementedError

    def workers(self):
        return sorted(set(self.each("here", [self.name] * 60)))

    def kill_worker(self):
        raise NotImplementedError

    def close(self):
        pass


class Missing:
    pass


def gathered(futures, halfway, limit):
    """Results of `concurrent.futures` and what resembles them."""
    deadline, results = time.monotonic() + limit, []
    for number, future in enumerate(futures):
        if halfway and number == len(futures) // 2:
            halfway()
        try:
            results.append(future.result(timeout=max(0.01, deadline - time.monotonic())))
        except Exception as error:
            results.append(Missing)
            print("missing: %r" % error, file=sys.stderr)
            if number < len(futures) and type(error).__name__ == "BrokenProcessPool":
                return results + [Missing] * (len(futures) - len(results))
    return results


class Trine(System):
    """Three nodes, started by whoever started us."""

    name = "trine"

    def __init__(self, options):
        import trine

        self.victim = options.victim
        env = [["TRINE_PYTHON", sys.executable]]
        self.executor = trine.Executor(options.address, token=options.token, options={"env": env})
        self.cluster = self.executor._cluster

    def each(self, name, arguments, halfway=None, limit=60.0):
        function = getattr(functions, name)
        futures = [self.executor.submit(function, argument) for argument in arguments]
        return gathered(futures, halfway, limit)

    def call(self, name, argument):
        return self.executor.submit(getattr(functions, name), argument).result()

    def kill_worker(self):
        os.kill(self.victim, signal.SIGKILL)

    def submit(self, count, range_tasks):
        """Submits `count` processes that do not run meanwhile; seconds until the last was durable."""
        from trine import _http, _records

        connection = _http.Connection(self.cluster)
        record = _records.encode({"process": {"argv": ["true"]}})
        sleeper = _records.encode({"process": {"argv": ["sleep", "60"]}})
        jobs = [connection.ask("POST", "/v1/jobs", {"name": name, "priority": priority})["id"]
                for name, priority in (("all slots", 1), ("submitted", 0))]
        connection.ask("POST", "/v1/jobs/%d/tasks" % jobs[0], sleeper * WORKERS * SLOTS)
        ranges, began = record * range_tasks, time.perf_counter()
        for first in range(0, count, range_tasks):
            tasks = min(range_tasks, count - first)
            body = ranges if tasks == range_tasks else record * tasks
            connection.ask("POST", "/v1/jobs/%d/tasks?after=%d" % (jobs[1], first), body,
                           kind="application/octet-stream")
        wall = time.perf_counter() - began
        for job in reversed(jobs):
            connection.ask("POST", "/v1/jobs/%d/cancel" % job, {})
        return wall

    def close(self):
        self.executor.shutdown()


class Pool(System):
    """`ProcessPoolExecutor` with as many processes as the others have slots."""

    name = "pool"

    def __init__(self, _):
        import concurrent.futures

        self.executor = concurrent.futures.ProcessPoolExecutor(WORKERS * SLOTS)

    def each(self, name, arguments, halfway=None, limit=60.0):
        function = getattr(functions, name)
        futures = [self.executor.submit(function, argument) for argument in arguments]
        return gathered(futures, halfway, limit)

    def kill_worker(self):
        os.kill(next(iter(self.executor._processes)), signal.SIGKILL)

    def close(self):
        self.executor.shutdown(wait=False, cancel_futures=True)


class Ray(System):
    """A head and two more nodes on this machine, as Ray's own tests make them."""

    name = "ray"

    def __init__(self, _):
        import ray
        from ray.cluster_utils import Cluster

        self.ray = ray
        store = 512 * 1024 * 1024
        head = {"num_cpus": SLOTS, "object_store_memory": store, "include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.others = [self.cluster.add_node(num_cpus=SLOTS, object_store_memory=store) for _ in range(WORKERS - 1)]
        ray.init(address=self.cluster.address, log_to_driver=False, logging_level="ERROR")
        self.cluster.wait_for_nodes()
        self.remote = {name: ray.remote(getattr(functions, name))
                       for name in ("nothing", "wait", "length", "here", "uneven")}

    def each(self, name, arguments, halfway=None, limit=60.0):
        remote = self.remote[name].remote
        references = [remote(argument) for argument in arguments]
        deadline = time.monotonic() + limit
        if halfway:
            half = len(references) // 2
            self.ray.get(references[:half])
            halfway()
        try:
            return self.ray.get(references, timeout=max(0.01, deadline - time.monotonic()))
        except self.ray.exceptions.GetTimeoutError:
            done, _ = self.ray.wait(references, num_returns=len(references), timeout=0)
            return [None] * len(done) + [Missing] * (len(references) - len(done))

    def call(self, name, argument):
        return self.ray.get(self.remote[name].remote(argument))

    def kill_worker(self):
        self.cluster.remove_node(self.others.pop(), allow_graceful=False)

    def close(self):
        self.ray.shutdown()
        self.cluster.shutdown()


class Dask(System):
    """A scheduler and three worker processes of two threads."""

    name = "dask"

    def __init__(self, _):
        import distributed

        self.cluster = distributed.LocalCluster(n_workers=WORKERS, threads_per_worker=SLOTS, processes=True,
                                                dashboard_address=None, silence_logs="CRITICAL")
        self.client = distributed.Client(self.cluster)

    def each(self, name, arguments, halfway=None, limit=60.0):
        function = getattr(functions, name)
        futures = [self.client.submit(function, argument, pure=False) for argument in arguments]
        if halfway:
            return gathered(futures, halfway, limit)
        return self.client.gather(futures)

    def call(self, name, argument):
        return self.client.submit(getattr(functions, name), argument, pure=False).result()

    def kill_worker(self):
        worker = list(self.cluster.workers.values())[-1]
        os.kill(worker.pid, signal.SIGKILL)

    def close(self):
        self.client.close()
        self.cluster.close()


class Celery(System):
    """Redis as Debian starts it, and three workers with two processes each."""

    name = "celery"

    def __init__(self, _):
        import socket

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        os.environ["COMPUTE_LOAD_REDIS"] = port
        self.folder = tempfile.TemporaryDirectory()
        self.redis = subprocess.Popen(["redis-server", "--port", port, "--dir", self.folder.name],
                                      stdout=subprocess.DEVNULL)
        self.processes = []
        # It refuses to unpickle as root otherwise.
        os.environ["C_FORCE_ROOT"] = "1"
        for number in range(WORKERS):
            command = [sys.executable, "-m", "celery", "-A", "celery_app", "worker", "-c", str(SLOTS), "-n",
                       "w%d@here" % number, "-l", "CRITICAL"]
            self.processes.append(subprocess.Popen(command, cwd=HERE, stdout=subprocess.DEVNULL,
                                                   stderr=subprocess.DEVNULL, start_new_session=True))
        import celery_app

        self.tasks = celery_app.TASKS
        while len(self.workers()) < WORKERS:
            time.sleep(0.2)

    def each(self, name, arguments, halfway=None, limit=60.0):
        delay = self.tasks[name].delay
        sent = [delay(argument) for argument in arguments]
        deadline, results = time.monotonic() + limit, []
        for number, result in enumerate(sent):
            if halfway and number == len(sent) // 2:
                halfway()
            try:
                results.append(result.get(timeout=max(0.01, deadline - time.monotonic())))
            except Exception:
                results.append(Missing)
        return results

    def call(self, name, argument):
        return self.tasks[name].delay(argument).get()

    def kill_worker(self):
        os.killpg(self.processes.pop().pid, signal.SIGKILL)

    def close(self):
        for process in self.processes:
            os.killpg(process.pid, signal.SIGKILL)
        self.redis.terminate()
        self.redis.wait()
        self.folder.cleanup()


SYSTEMS = {system.name: system for system in (Trine, Ray, Dask, Celery, Pool)}
