"""One system under load: `python load.py SYSTEM`. Reads the name of a work from
standard input, says `{"ready": …}` when all is set up for it, waits for `go`,
does it, and says what it took, one JSON object a line. Whoever started us looks
at processor time and memory meanwhile, and starts no other load."""

import argparse
import ctypes
import json
import os
import signal
import sys
import time

import systems

# Whose parent has died becomes a child of ours: nothing of a system escapes the account.
PR_SET_CHILD_SUBREAPER = 36
# Longest time that one work may take.
LIMIT = 100
# What a task of the works with a dead or slow worker waits.
SECONDS = 0.05


class Late(Exception):
    pass


def timed(work):
    """Seconds that it took, and its results."""
    begin = time.perf_counter()
    results = work()
    return time.perf_counter() - begin, results


def many(system, name, arguments, **more):
    wall, results = timed(lambda: system.each(name, arguments, **more))
    missing = sum(result is systems.Missing for result in results)
    return {"wall": wall, "tasks": len(arguments), "missing": missing}


def one_by_one(system, count):
    times = []
    for _ in range(count):
        times.append(timed(lambda: system.call("nothing", None))[0] * 1e3)
    times.sort()
    return {"wall": sum(times) / 1e3, "tasks": count, "missing": 0, "median_ms": times[count // 2],
            "p99_ms": times[count * 99 // 100]}


def large(system, prepared):
    wall, results = timed(lambda: system.each("length", prepared))
    missing = sum(result != len(data) for result, data in zip(results, prepared))
    return {"wall": wall, "tasks": len(prepared), "missing": missing}


def prepare(system, work, part):
    """What of a work is not measured."""
    if work == "large":
        noise = os.urandom(1024 * 1024 - 8)
        return [number.to_bytes(8, "big") + noise for number in range(500 // part)]
    if work == "slow":
        return system.workers()[-1]
    return None


def perform(system, work, prepared, part):
    if work == "empty":
        return many(system, "nothing", [None] * (10_000 // part))
    if work == "trip":
        return one_by_one(system, 500 // part)
    if work == "10ms":
        return many(system, "wait", [0.01] * (1_000 // part))
    if work == "100ms":
        return many(system, "wait", [0.1] * (1_000 // part))
    if work == "large":
        return large(system, prepared)
    if work == "slow":
        return many(system, "uneven", [(system.name, prepared, SECONDS)] * (600 // part))
    if work == "killed":
        return many(system, "wait", [SECONDS] * (600 // part), halfway=system.kill_worker, limit=30.0)
    if work == "submit":
        tasks = 200_000 // part
        return {"wall": system.submit(tasks, 4_096), "tasks": tasks, "missing": 0}
    if work == "idle":
        time.sleep(4)
        return {"wall": 4.0, "tasks": 1, "missing": 0}
    raise ValueError("no work is called %r" % work)


def late(*_):
    raise Late("it took longer than %d s" % LIMIT)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("system", choices=systems.SYSTEMS)
    parser.add_argument("--address")
    parser.add_argument("--token")
    parser.add_argument("--victim", type=int)
    parser.add_argument("--part", type=int, default=1, help="one part in so many of each work")
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    answers = os.fdopen(os.dup(1), "w")
    # What systems print is not for whoever reads our answers.
    os.dup2(2, 1)
    signal.signal(signal.SIGALRM, late)

    def say(answer):
        print(json.dumps(answer), file=answers, flush=True)

    signal.alarm(LIMIT)
    try:
        system = systems.SYSTEMS[options.system](options)
        # Imports, warm interpreters and connections are no part of any figure.
        system.workers()
        system.each("nothing", [None] * 200)
    except Exception as error:
        say({"error": "it does not start: %r" % error})
        return
    signal.alarm(0)
    while line := sys.stdin.readline():
        work = line.strip()
        signal.alarm(LIMIT)
        try:
            prepared = prepare(system, work, options.part)
            say({"ready": work})
            sys.stdin.readline()
            say(perform(system, work, prepared, options.part))
        except Exception as error:
            say({"error": repr(error)})
        finally:
            signal.alarm(0)
    system.close()


if __name__ == "__main__":
    main()
