"""Three nodes started one by one, so that a test may kill them."""

import os
import shutil
import subprocess
import tempfile
import time

from conftest import free_ports

# Longest wait for a node to serve.
START_LIMIT = 60


class Nodes:
    """`with Nodes() as nodes:`; node n is at index n-1."""

    def __init__(self, *more, count=3):
        self.more, self.count = list(more), count
        self.program = os.environ["TRINE"]

    def __enter__(self):
        self.data = tempfile.mkdtemp(prefix="trine-nodes-")
        first = free_ports(self.count)
        self.redis = [first + 10 * n for n in range(self.count)]
        self.nats = [first + 10 * n + 2 for n in range(self.count)]
        self.admin = [first + 10 * n + 5 for n in range(self.count)]
        self.processes = []
        for n in range(self.count):
            self.start(n)
        return self

    def folder(self, n):
        return os.path.join(self.data, f"node{n + 1}")

    def start(self, n):
        """Starts a node; all but the first join with a ticket of the first."""
        arguments = [self.program, "start", "--data", self.folder(n), *self.more]
        for name, ports in (("redis", self.redis), ("nats", self.nats), ("admin", self.admin)):
            arguments += [f"--{name}", f"127.0.0.1:{ports[n]}"]
        if n > 0:
            ticket = os.path.join(self.data, f"ticket{n}")
            with open(ticket, "w") as file:
                subprocess.run(
                    [self.program, "ticket", "--data", self.folder(0)], stdout=file, check=True, timeout=START_LIMIT
                )
            arguments += ["--join", f"@{ticket}"]
        log = open(os.path.join(self.data, f"log{n + 1}"), "w")
        self.processes.append(subprocess.Popen(arguments, stderr=log))
        deadline = time.monotonic() + START_LIMIT
        while "serving" not in open(log.name).read():
            if self.processes[n].poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"node {n + 1} does not serve: {open(log.name).read()[-4000:]}")
            time.sleep(0.02)

    def kill(self, n):
        """SIGKILL."""
        self.processes[n].kill()
        self.processes[n].wait()

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()
        shutil.rmtree(self.data, ignore_errors=True)
