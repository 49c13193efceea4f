"""Starts three nodes and runs the tests of this folder against the first:
`python run.py [--only WORD] [FAMILY…]`. The binary is the one named by TRINE.
"""

import os
import subprocess
import sys
import sysconfig

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
# Where Debian puts the tests of its Python.
DEBIAN = "/usr/lib/python%d.%d/test" % sys.version_info[:2]

sys.path.insert(0, os.path.join(ROOT, "tests", "python"))


def make_known():
    """Lets every interpreter of this environment, those of nodes too, import client and tests."""
    lines = [os.path.join(ROOT, "clients", "python")]
    if os.path.isdir(DEBIAN):
        lines.append("import test; test.__path__.append(%r)" % DEBIAN)
    with open(os.path.join(sysconfig.get_path("purelib"), "trine-conformance.pth"), "w") as file:
        file.write("\n".join(lines) + "\n")


def main(arguments):
    word = ""
    if arguments[:1] == ["--only"]:
        word, arguments = arguments[1], arguments[2:]
    make_known()
    os.environ["TRINE_PYTHON"] = sys.executable
    from conftest import running

    failed = 0
    with running() as cluster:
        os.environ["TRINE_TOKEN_FILE"] = os.path.join(cluster.data, "node1", "admin.token")
        address = "127.0.0.1:%d" % cluster.admin[0]
        for script in ("cpython.py", "users.py"):
            command = [sys.executable, os.path.join(HERE, script), address, word, *arguments]
            failed |= subprocess.run(command).returncode
        if not arguments or "joblib" in arguments:
            failed |= joblib_tests(address, word)
    return failed


def joblib_tests(address, word):
    """Those of joblib's own tests of parallelism that take a backend, with ours."""
    ours = "(trine or Trine)" + (" and " + word if word else "")
    command = [sys.executable, "-m", "pytest", "-q", "--color=no", "--tb=short", "-p", "joblib_plugin", "-p",
               "no:cacheprovider", "-k", ours, "--pyargs", "joblib.test.test_parallel"]
    environment = dict(os.environ, TRINE_ADDRESS=address, PYTHONPATH=HERE)
    return subprocess.run(command, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
