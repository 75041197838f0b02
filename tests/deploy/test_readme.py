"""The commands of the documents exist, and those of the README work in the order in which a new user runs them.

A test replaces ports, the host name of the example and the directory of the programs, and nothing else."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from broker import free_port

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BUILT = pathlib.Path(os.environ.get("BEDSIDE_TEST_PROGRAMS", TARGET / "debug"))
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# Programs of a user.
PROGRAMS = ("bedside", "monitor", "patient")
# The program of each package of `cargo run -p`.
PACKAGES = {"bedside-standalone": "bedside", "bedside-monitor": "monitor", "bedside-patient": "patient"}


def blocks(document):
    """Lines of shell commands without comments."""
    for block in re.findall(r"^```sh\n(.*?)^```", document.read_text(), re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            if line := re.sub(r"(^|\s+)#.*", "", line).strip():
                yield line


def section(title):
    text = (ROOT / "README.md").read_text()
    found = re.search(rf"^##+ {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    return [line for block in re.findall(r"^```sh\n(.*?)^```", found[1], re.M | re.S) for line in block.splitlines()]


def commands():
    """Program, words and place of each command of Bedside in a document."""
    for document in DOCUMENTS:
        for line in blocks(document):
            line = re.sub(r"^(sudo -u bedside )?(target/release/)?", "", line)
            if found := re.match(rf"({'|'.join(PROGRAMS)})(?= |$)(.*)", line):
                yield found[1], found[2], f"{document.name}: {line}"
            elif found := re.match(r"cargo run --release(?: -p ([\w-]+))?(?: -- (.*))?$", line):
                yield PACKAGES[found[1] or "bedside-standalone"], found[2] or "", f"{document.name}: {line}"


def help_text(program, *words):
    done = subprocess.run([BUILT / program, *words, "--help"], env={}, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else ""


def subcommands(text):
    listed = re.search(r"^Commands:\n(.*?)^\n", text, re.M | re.S)
    return re.findall(r"^  ([\w-]+)", listed[1], re.M) if listed else []


class Documents(unittest.TestCase):
    def test_commands_and_options_in_documents_exist(self):
        texts = {}
        number = 0
        for program, rest, place in commands():
            words = re.split(r"[|>;]", rest)[0].split()
            path = ()
            text = texts.setdefault((program,), help_text(program))
            while words and words[0] in subcommands(text):
                path += (words.pop(0),)
                text = texts.setdefault((program, *path), help_text(program, *path))
            if words and subcommands(text):
                self.assertTrue(words[0].startswith("-"), f"{place}: unknown command {words[0]}")
            for option in (word.split("=")[0] for word in words if word.startswith("--")):
                self.assertRegex(text, rf"(?m)^ +(-\w, )?{option}\b", f"{place}: unknown option {option}")
            number += 1
        self.assertGreater(number, 20)

    def test_tables_of_the_readme_name_existing_commands_and_options(self):
        text = (ROOT / "README.md").read_text()
        known = help_text("bedside")
        named = re.search(r"^## Commands\n(.*?)^## ", text, re.M | re.S)[1]
        for words in re.findall(r"`bedside ([^`]+)`", named):
            word = words.split()[0]
            if not word.startswith("-") and word != "COMMAND":
                self.assertIn(word, subcommands(known))
        for word in subcommands(known):
            if word != "help":
                self.assertRegex(named, rf"`(bedside )?{word}\b", f"the README does not name {word}")
        settings = re.search(r"^## Settings\n(.*?)^## ", text, re.M | re.S)[1]
        client = help_text("bedside", "patients")
        for line in re.findall(r"^\| `--.*$", settings, re.M):
            options, default, programs, _ = (cell.strip() for cell in line.strip("|").split("|"))
            for option in re.findall(r"--[\w-]+", options):
                # Each option with its text, up to the next one.
                found = re.search(rf"(?ms)^ +{option} <.*?(?=^ +--|\Z)", client if "commands" in programs else known)
                self.assertTrue(found, option)
                shown = re.sub(r'"(\d+) (\w+)"', r"\1\2", found[0])
                if default and "~" not in default:
                    self.assertIn(f"default: {default.strip('`')}]", shown, option)

    def test_manual_pages_name_all_commands_and_only_existing_options(self):
        for program, page in (("bedside", "bedside"), ("monitor", "bedside-monitor"), ("patient", "bedside-patient")):
            text = (ROOT / f"deploy/packaging/man/{page}.1").read_text().replace("\\-", "-")
            known = help_text(program)
            for command in subcommands(known):
                if command != "help":
                    self.assertRegex(text, rf'(?m)^\.BR? .*\b{command}\b', f"{page}: {command}")
            everything = known + "".join(help_text(program, command) for command in subcommands(known))
            for option in set(re.findall(r"--[\w-]+", text)):
                self.assertRegex(everything, rf"{option}\b", page)


class NewUser(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        (self.folder / "target/release").mkdir(parents=True)
        shutil.copy(BUILT / "bedside", self.folder / "target/release")
        self.port = str(free_port())
        path = f"{self.folder / 'target/release'}:{os.environ['PATH']}"
        self.environment = {"PATH": path, "HOME": str(self.folder), "BEDSIDE_LISTEN": f"127.0.0.1:{self.port}"}
        self.environment["BEDSIDE_GATEWAY"] = f"http://127.0.0.1:{self.port}"

    def adapted(self, line):
        line = line.replace("5011", self.port).replace("ward.example", "localhost")
        return line.replace("cargo run --release -- ", "target/release/bedside ")

    def start(self, line):
        """A server or another program that does not end by itself."""
        log = open(self.folder / "log", "w+")
        self.addCleanup(log.close)
        process = subprocess.Popen(["bash", "-c", f"exec {self.adapted(line)}"], cwd=self.folder, env=self.environment,
                                   stdout=log, stderr=subprocess.STDOUT)  # fmt: skip
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process, self.folder / "log"

    def serve(self, line):
        process, log = self.start(line)
        deadline = time.monotonic() + 60
        while f":{self.port}" not in log.read_text():
            self.assertIsNone(process.poll(), log.read_text())
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.1)
        self.assertIn("Bedside listens on http", log.read_text())
        return process

    def bash(self, line):
        command = ["bash", "-c", self.adapted(line)]
        options = {"capture_output": True, "text": True, "timeout": 60}
        return subprocess.run(command, cwd=self.folder, env=self.environment, **options)

    def run_line(self, line):
        done = self.bash(line)
        self.assertEqual(done.returncode, 0, f"{line}\n{done.stdout}{done.stderr}")
        return done.stdout

    def watch(self, line):
        """Runs a command until it prints a line, then ends it as Ctrl-C does."""
        process = subprocess.Popen(["bash", "-c", f"exec {self.adapted(line)}"], cwd=self.folder, env=self.environment,
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)  # fmt: skip
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.kill)
        self.assertTrue(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        process.wait(30)

    def test_quick_start(self):
        lines = section("Quick start")
        demo = next(line for line in lines if "--demo" in line)
        server = self.serve(demo)
        ran = 0
        for line in lines:
            if "cargo" in line:
                continue  # The server above, and the apps.
            ran += 1
            if "watch" in line or "curl -N" in line:
                self.watch(re.sub(r"\s+#.*", "", line))
            else:
                printed = self.run_line(re.sub(r"^curl ", "curl --silent --show-error --fail ", line))
                if line.startswith("curl http://127.0.0.1:5011/ "):
                    self.assertIn("Server is on", printed)
                if "bedside patients" in line:
                    self.assertIn("Ann", printed)
        self.assertEqual(ran, 10)
        self.assertTrue(any((self.folder / "ann").iterdir()))
        server.send_signal(signal.SIGINT)
        self.assertEqual(server.wait(30), 0)
        # What the README says about removal.
        removed = set(re.findall(r"^\| `(~/[^`]+)`", (ROOT / "README.md").read_text(), re.M))
        written = {path for path in (self.folder / ".local/share").iterdir()}
        self.assertLessEqual({f"~/.local/share/{path.name}" for path in written}, removed)

    def test_access_from_other_machines(self):
        lines = section("Access from other machines")
        self.assertEqual(len(lines), 4)
        for line in lines[:2]:
            self.run_line(line)
        del self.environment["BEDSIDE_GATEWAY"]
        self.serve(lines[2])
        self.run_line(lines[3])
        without = self.bash(lines[3].replace("--token-file token", ""))
        self.assertEqual(without.returncode, 1)
        self.assertIn("token", without.stderr)


if __name__ == "__main__":
    unittest.main()
