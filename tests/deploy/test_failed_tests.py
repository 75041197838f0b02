"""`scripts/failed-tests` names the failed tests in the output of `cargo test`, and fails if something else failed."""
import subprocess
import unittest
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/failed-tests"
FAILED = """
failures:

---- {name} stdout ----
failures:
    not a name
stack backtrace:
    at ./tests/client/devices.rs:323:27

failures:
    {name}
    wards::second

test result: FAILED. 39 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 7.20s

error: test failed, to rerun pass `-p bedside-client --test client`
"""
PASSED = "test result: ok. 45 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n"


def failed_tests(output: str) -> tuple[int, list[str]]:
    found = subprocess.run([SCRIPT], input=output, capture_output=True, text=True, timeout=60)
    return found.returncode, found.stdout.splitlines()


class FailedTests(unittest.TestCase):
    def test_names_are_listed_once(self):
        output = FAILED.format(name="devices::first") + PASSED + FAILED.format(name="beds::first")
        output += "error: 2 targets failed:\n    `-p bedside-client --test client`\n    `-p bedside-tests --test beds`\n"
        self.assertEqual(failed_tests(output), (0, ["beds::first", "devices::first", "wards::second"]))

    def test_a_program_that_ends_without_a_result_is_no_failed_test(self):
        output = FAILED.format(name="devices::first")
        output += "error: 2 targets failed:\n    `-p bedside-client --test client`\n    `-p bedside-tests --test beds`\n"
        self.assertEqual(failed_tests(output), (1, []))

    def test_a_failed_build_is_no_failed_test(self):
        self.assertEqual(failed_tests(PASSED + "error: could not compile `bedside-client` (lib test)\n"), (1, []))
