"""Redis's own command-line tools, as Debian ships them."""

import subprocess


def cli(port, *words):
    finished = subprocess.run(["redis-cli", "-p", str(port), *words], capture_output=True, text=True, timeout=60)
    return finished.stdout.strip()


def test_redis_cli(port):
    assert cli(port, "PING") == "PONG"
    assert cli(port, "SET", "tool", "value") == "OK"
    assert cli(port, "GET", "tool") == "value"
    assert cli(port, "INCR", "tool").startswith("ERR value is not an integer")
    assert "redis_version" in cli(port, "INFO")
    assert cli(port, "-3", "GET", "tool") == "value"


def test_redis_cli_scans_and_follows_the_cluster(port):
    assert cli(port, "SET", "scan:me", "1") == "OK"
    assert "scan:me" in cli(port, "--scan", "--pattern", "scan:*").splitlines()
    assert cli(port, "-c", "GET", "scan:me") == "1"
    assert "cluster_state:ok" in cli(port, "CLUSTER", "INFO")


def benchmark(port, *words):
    arguments = ["redis-benchmark", "-p", str(port), "--csv", "-d", "256", "-r", "1000", *words]
    finished = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr
    rows = [line.split(",") for line in finished.stdout.splitlines() if line.startswith('"')]
    return {row[0].strip('"'): float(row[1].strip('"')) for row in rows if row[0] != '"test"'}


def test_redis_benchmark(port):
    rates = benchmark(port, "-n", "500", "-c", "20", "-t", "set,get,incr")
    assert {"SET", "GET", "INCR"} <= set(rates) and all(rate > 0 for rate in rates.values())


def test_redis_benchmark_with_pipelines(port):
    rates = benchmark(port, "-n", "1600", "-c", "20", "-P", "16", "-t", "set,get")
    assert all(rate > 0 for rate in rates.values())
