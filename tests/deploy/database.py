"""A MongoDB stand-in for the tests of the start-up scripts, which run in the real mongosh.

The stand-in is the one that tests/stack uses."""

import importlib.machinery
import importlib.util
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading

DEPLOY = pathlib.Path(__file__).resolve().parents[2] / "deploy"
STAND_IN = pathlib.Path(__file__).resolve().parents[1] / "stack" / "mongo" / "mongod"
MONGOSH = os.environ["BEDSIDE_TEST_MONGOSH"]
SCRIPTS = ("mongo-bootstrap.js", "mongo-setup.js")
USERS = ("root", "backup", "setup", "ingest", "query", "alarms")


def stand_in():
    loader = importlib.machinery.SourceFileLoader("stand_in", str(STAND_IN))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("stand_in", loader))
    loader.exec_module(module)
    return module


class Database:
    """The stand-in on a free port. After `hold_at(n)`, it delays its answer to the nth administrative command."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.secrets = pathlib.Path(self.folder.name, "secrets")
        for folder in ("mongo", "mongo-setup"):
            (self.secrets / folder).mkdir(parents=True)
        for user in USERS:
            self.set_password(user, f"password-of-{user}")
        self.data = pathlib.Path(self.folder.name, "data")
        self.data.mkdir()
        self.module = stand_in()
        self.server = self.module.start(str(self.data), "127.0.0.1", 0, "rs0")
        self.port = self.server._socket.getsockname()[1]
        self.dispatch = self.module.secantus.server.dispatch
        self.module.secantus.server.dispatch = self.observe
        self.commands = []
        self.held, self.answer, self.hold_at_number = threading.Event(), threading.Event(), None

    def observe(self, document, ctx):
        name = next(iter(document), "")
        answer = self.dispatch(document, ctx)
        if name in self.module.ADMIN_COMMANDS and answer.get("ok"):
            self.commands.append(name)
            if len(self.commands) == self.hold_at_number:
                self.held.set()
                self.answer.wait(60)
        return answer

    def hold_at(self, number):
        self.held.clear()
        self.answer.clear()
        self.commands, self.hold_at_number = [], number

    def set_password(self, user, password):
        (self.secrets / "mongo-setup" / f"{user}-password").write_text(password + "\n")
        if user == "root":
            (self.secrets / "mongo" / "root-password").write_text(password + "\n")

    def environment(self, **more):
        address = f"127.0.0.1:{self.port}"
        return {
            **os.environ,
            "HOME": self.folder.name,
            "MONGO_MEMBER": address,
            "MONGODB_BOOTSTRAP_ADDRESS": address,
            "MONGODB_ROOT_PASSWORD_FILE": str(self.secrets / "mongo" / "root-password"),
            "MONGODB_HOSTS": address,
            "MONGODB_OPTIONS": "replicaSet=rs0",
            "SECRETS": str(self.secrets),
            "MONGODB_SETUP_PATIENCE_S": "20",
            **more,
        }

    def begin(self, script, **environment):
        return subprocess.Popen(
            [MONGOSH, "--nodb", "--quiet", "--norc", str(DEPLOY / script)],
            env=self.environment(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def run(self, script, **environment):
        process = self.begin(script, **environment)
        printed, _ = process.communicate(timeout=150)
        return process.returncode, printed

    def set_up(self, test):
        """Runs both scripts, which must succeed."""
        for script in SCRIPTS:
            status, printed = self.run(script)
            test.assertEqual(status, 0, printed)

    def run_and_kill_at(self, script, number):
        """Kills mongosh after the nth administrative command. Returns False if the script ends before."""
        self.hold_at(number)
        process = self.begin(script)
        while not self.held.wait(0.05):
            if process.poll() is not None:
                self.hold_at_number = None
                return False
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        self.commands.clear()
        self.hold_at_number = None
        self.answer.set()
        return True

    def client(self, user, password=None, database="bedside"):
        import pymongo

        return pymongo.MongoClient(
            "127.0.0.1",
            self.port,
            directConnection=True,
            username=user,
            password=password or f"password-of-{user}",
            authSource="admin" if user == "root" else database,
            serverSelectionTimeoutMS=5000,
        )

    def close(self):
        self.answer.set()
        self.server.stop()
        self.folder.cleanup()


if __name__ == "__main__":
    sys.exit("this is a module of the tests; run tests/deploy/run.py")
