"""What each task of an engine runs: starts the engine's own program, and keeps
it running. The scheduler's agent answers at a known port where its scheduler
is, and as long as it answers, it runs; the agents of workers look for it at all
nodes, and start their worker anew when it has moved. Both sides prove that they
know the engine's secret before anything else is said. Standard library only:
the environment of the engine need not have anything else.

The text comes with the task; `TRINE_ENGINE` describes what to run (JSON).
"""

import hashlib
import hmac
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time

# How long anything of a conversation may take.
SILENCE = 5.0
# How often the scheduler's agent says that it is alive.
PULSE = 1.0
# Pause before something that has failed is tried again.
PAUSE = 0.5
# How long a program may take to end by itself.
END_LIMIT = 5.0
# How long a scheduler may take until its port is open.
START_LIMIT = 120.0
# What follows the first 32 bytes of a greeting: whether the scheduler takes connections.
UP, DOWN = b"+", b"-"
# Bytes of a log before it begins anew.
MOST_LOGGED = 16 << 20
# Conversations at once: one for each node, generously.
MOST_TALKS = 256

PLAN = json.loads(os.environ.pop("TRINE_ENGINE"))
SECRET = os.environ.pop("TRINE_ENGINE_SECRET").encode()
NODE = os.environ["TRINE_NODE"]
HOST = PLAN["hosts"][NODE]
FOLDER = os.environ["TMPDIR"]


LOG = os.open(os.path.join(FOLDER, "engine.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def log(text):
    if os.fstat(LOG).st_size > MOST_LOGGED:
        os.ftruncate(LOG, 0)
    os.write(LOG, ("trine, node %s: %s\n" % (NODE, text)).encode())


def proof(who, first, second):
    return hmac.new(SECRET, who + first + second, hashlib.sha256).digest()


def receive(sock, count):
    got = b""
    while len(got) < count:
        piece = sock.recv(count - len(got))
        if not piece:
            raise OSError("closed")
        got += piece
    return got


class Engine:
    """How one engine's programs are started."""

    def __init__(self):
        self.port = PLAN["port"]
        self.env = dict(os.environ)

    def address(self):
        return "%s:%d" % (HOST, self.port)

    def ready(self):
        """Whether the scheduler takes connections."""
        try:
            socket.create_connection((HOST, self.port), 1).close()
            return True
        except OSError:
            return False

    def before_worker(self):
        pass


class Dask(Engine):
    def __init__(self):
        super().__init__()
        self.tls = []
        for name in ("ca", "cert", "key"):
            path = os.path.join(FOLDER, name + ".pem")
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(self.env.pop("TRINE_ENGINE_" + name.upper()))
            self.tls += ["--tls-%s%s" % (name, "-file" if name == "ca" else ""), path]

    def address(self):
        return "tls://" + super().address()

    def scheduler(self):
        return [sys.executable, "-m", "distributed.cli.dask_scheduler", "--protocol", "tls", "--host", HOST,
                "--port", str(self.port), "--no-dashboard", *self.tls]

    def worker(self, address):
        memory = str(PLAN["memory"]) if PLAN["memory"] else "0"
        return [sys.executable, "-m", "distributed.cli.dask_worker", address, "--protocol", "tls", "--host", HOST,
                "--nworkers", "1", "--nthreads", str(PLAN["cpus"]), "--memory-limit", memory, "--no-dashboard",
                "--name", "node%s" % NODE, "--local-directory", FOLDER, "--death-timeout", "30", *self.tls]


class Ray(Engine):
    def __init__(self):
        super().__init__()
        self.env.update({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": SECRET.decode()})

    def start(self, words):
        return [os.path.join(os.path.dirname(sys.executable), "ray"), "start", "--block", "--disable-usage-stats",
                "--node-ip-address", HOST, "--num-cpus", str(PLAN["cpus"]), "--min-worker-port", "0",
                "--max-worker-port", "0", *words]

    def scheduler(self):
        # All nodes use the path of the head, and sockets below it have to have short names: no folder of a task.
        folder = "/tmp/trine-ray-" + hashlib.sha256(SECRET).hexdigest()[:8]
        words = self.start(["--head", "--port", str(self.port), "--include-dashboard", "false", "--temp-dir", folder])
        # The head is no worker: those are on every node, this one's too.
        words[words.index("--num-cpus") + 1] = "0"
        return words

    def worker(self, address):
        return self.start(["--address", address])


class Spark(Engine):
    def __init__(self):
        super().__init__()
        import pyspark

        self.home = os.path.dirname(pyspark.__file__)
        self.env.update({
            "SPARK_HOME": self.home, "SPARK_NO_DAEMONIZE": "1", "SPARK_LOCAL_IP": HOST,
            "SPARK_MASTER_OPTS": "-Dspark.authenticate=true", "SPARK_WORKER_OPTS": "-Dspark.authenticate=true",
            "SPARK_AUTHENTICATE_SECRET": SECRET.decode(), "_SPARK_AUTH_SECRET": SECRET.decode(),
            "PYSPARK_PYTHON": sys.executable,
        })

    def address(self):
        return "spark://" + super().address()

    def launch(self, name, words):
        return [os.path.join(self.home, "bin", "spark-class"), "org.apache.spark.deploy." + name, *words]

    def scheduler(self):
        return self.launch("master.Master", ["--host", HOST, "--port", str(self.port), "--webui-port", "0"])

    def worker(self, address):
        memory = "%dm" % (PLAN["memory"] >> 20) if PLAN["memory"] else "1g"
        return self.launch("worker.Worker", ["--host", HOST, "--webui-port", "0", "--cores", str(PLAN["cpus"]),
                                             "--memory", memory, "--work-dir", FOLDER, address])


class Program:
    """A program of the engine that runs."""

    def __init__(self, engine, words):
        log("starts %s" % " ".join(words[:4]))
        self.child = subprocess.Popen(words, env=engine.env, stdin=subprocess.DEVNULL, stdout=LOG, stderr=LOG, cwd=FOLDER)

    def ended(self):
        if os.fstat(LOG).st_size > MOST_LOGGED:
            os.ftruncate(LOG, 0)
        return self.child.poll()

    def end(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(END_LIMIT)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()


# The scheduler's side.

class Meeting:
    """Tells workers where the scheduler is, and that it is alive."""

    def __init__(self, engine):
        self.listener = self.listen(PLAN["meet"])
        self.engine = engine
        self.up = threading.Event()
        self.turns = threading.BoundedSemaphore(MOST_TALKS)
        threading.Thread(target=self.accept, daemon=True).start()

    @staticmethod
    def listen(port):
        said = False
        while True:
            try:
                return socket.create_server((HOST, port), backlog=64)
            except OSError as error:
                if not said:
                    log("port %d: %s; tried again until it is free" % (port, error))
                said = True
                time.sleep(PAUSE)

    def accept(self):
        while True:
            sock, _ = self.listener.accept()
            if self.turns.acquire(blocking=False):
                threading.Thread(target=self.talk, args=(sock,), daemon=True).start()
            else:
                sock.close()

    def talk(self, sock):
        try:
            with sock:
                sock.settimeout(SILENCE)
                ours, up = os.urandom(32), self.up.is_set()
                sock.sendall(ours + (UP if up else DOWN))
                if not up:
                    return
                theirs = receive(sock, 64)
                if not hmac.compare_digest(theirs[32:], proof(b"worker", ours, theirs[:32])):
                    return
                address = self.engine.address().encode()
                sock.sendall(proof(b"scheduler", theirs[:32], ours) + bytes([len(address)]) + address)
                while self.up.is_set():
                    sock.sendall(b".")
                    time.sleep(PULSE)
        except OSError:
            pass
        finally:
            self.turns.release()


def schedule(engine):
    meeting = Meeting(engine)
    while True:
        program = Program(engine, engine.scheduler())
        deadline = time.monotonic() + START_LIMIT
        while program.ended() is None and not engine.ready() and time.monotonic() < deadline:
            time.sleep(0.1)
        if program.ended() is None and engine.ready():
            log("the scheduler is at %s" % engine.address())
            meeting.up.set()
            while program.ended() is None:
                time.sleep(0.2)
        meeting.up.clear()
        program.end()
        log("the scheduler has ended with %s; another one is started" % program.ended())
        time.sleep(PAUSE * 2)


# The workers' side.

def find():
    """A connection to the scheduler's agent, and where the scheduler is; None if no node has it now."""
    for host in dict.fromkeys(PLAN["hosts"].values()):
        try:
            sock = socket.create_connection((host, PLAN["meet"]), SILENCE / 2)
        except OSError:
            continue
        try:
            sock.settimeout(SILENCE)
            theirs, ours = receive(sock, 32), os.urandom(32)
            if receive(sock, 1) == UP:
                sock.sendall(ours + proof(b"worker", theirs, ours))
                if hmac.compare_digest(receive(sock, 32), proof(b"scheduler", ours, theirs)):
                    return sock, receive(sock, receive(sock, 1)[0]).decode()
        except OSError:
            pass
        sock.close()
    return None


def work(engine):
    while True:
        found = find()
        if found is None:
            time.sleep(PAUSE)
            continue
        sock, address = found
        engine.before_worker()
        program = Program(engine, engine.worker(address))
        heard = time.monotonic()
        why = None
        while why is None:
            if select.select([sock], [], [], 0.2)[0]:
                try:
                    if not sock.recv(64):
                        why = "the scheduler is gone"
                except OSError as error:
                    why = "the scheduler is gone: %s" % error
                heard = time.monotonic()
            elif time.monotonic() - heard > SILENCE:
                why = "the scheduler says nothing"
            elif program.ended() is not None:
                why = "the worker has ended with %s" % program.ended()
        log("%s; the worker is started anew" % why)
        sock.close()
        program.end()
        time.sleep(PAUSE)


def main():
    engine = {"dask": Dask, "ray": Ray, "spark": Spark}[PLAN["engine"]]()
    # Whoever is told to end, ends at once: nothing here has to be saved.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    (schedule if PLAN["role"] == "scheduler" else work)(engine)


main()
