"""Runs all tests of this directory, three at a time, each in its own process."""

import concurrent.futures
import pathlib
import subprocess
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent


def tests(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from tests(item)
        else:
            yield item.id()


def run(test):
    command = [sys.executable, "-W", "ignore", "-m", "unittest", test]
    return subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=300)


sys.path.insert(0, str(HERE))
names = list(tests(unittest.defaultTestLoader.discover(str(HERE))))
failed = 0
with concurrent.futures.ThreadPoolExecutor(3) as pool:
    for name, result in zip(names, pool.map(run, names)):
        if result.returncode != 0:
            failed += 1
            print(f"{name}\n{result.stdout}{result.stderr}")
print(f"{len(names) - failed} of {len(names)} tests of deploy/ passed")
sys.exit(1 if failed or not names else 0)
