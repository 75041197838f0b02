"""The MongoDB rights of each service, compared with the commands that it sends.

The stand-in of MongoDB may check rights less strictly than mongod. Therefore this test records the commands of the real programs and
compares them with the actions that MongoDB documents for each command: a service has every action that its commands need, and no
action that no command needs."""

import os
import pathlib
import random
import re
import struct
import subprocess
import threading
import time
import urllib.error
import urllib.request
import unittest
import zlib

from broker import free_ports, plain_broker, wait_until
from database import DEPLOY, Database

PROGRAMS = pathlib.Path(os.environ["BEDSIDE_TEST_PROGRAMS"])
# Actions per command, from the page "Privilege Actions" of the manual of MongoDB and the pages of the commands. Every user may send
# commands without an action, end its own cursors and sessions, and end its own transactions.
ACTIONS = {
    "aggregate": {"find"},
    "count": {"find"},
    "create": {"createCollection"},
    "createIndexes": {"createIndex"},
    "dbStats": {"dbStats"},
    "delete": {"remove"},
    "distinct": {"find"},
    "drop": {"dropCollection"},
    "find": {"find"},
    "findAndModify": {"find", "update"},
    "getMore": {"find"},
    "insert": {"insert"},
    "listCollections": {"listCollections"},
    "listIndexes": {"listIndexes"},
    # On the same database.
    "renameCollection": {"renameCollectionSameDB"},
    "update": {"update"},
    **dict.fromkeys(
        ["abortTransaction", "buildInfo", "commitTransaction", "endSessions", "hello", "isMaster", "ismaster", "killCursors", "ping",
         "saslContinue", "saslStart"],
        set(),
    ),
}
# Commands that concern a whole database.
OF_DATABASES = {"dbStats", "listCollections"}


def actions(document):
    """The actions that MongoDB documents for a command. Raises KeyError for a command that is not in the table."""
    name = next(iter(document))
    needed = set(ACTIONS[name])
    updates = [document] if name == "findAndModify" else document.get("updates", [])
    if any(update.get("upsert") for update in updates):
        needed.add("insert")
    if name == "findAndModify" and document.get("remove"):
        needed = {"find", "remove"}
    # A server creates the target anew if it exists.
    if name == "renameCollection" and document.get("dropTarget"):
        needed.add("dropCollection")
    if name == "aggregate" and any("$out" in stage or "$merge" in stage for stage in document["pipeline"]):
        raise KeyError("aggregate that writes")
    return needed


def collection(document):
    name = next(iter(document))
    if name in OF_DATABASES or not ACTIONS[name]:
        return ""
    if name == "renameCollection":
        return document[name].split(".", 1)[1]
    return document["collection"] if name == "getMore" else document[name]


def png(side):
    """An image that cannot be compressed."""
    rows = b"".join(b"\0" + random.Random(row).randbytes(3 * side) for row in range(side))
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))  # noqa: E731
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows, 0)) + chunk(b"IEND", b"")


class Rights(unittest.TestCase):
    def setUp(self):
        self.database = Database()
        self.addCleanup(self.database.close)
        self.database.set_up(self)
        self.folder = pathlib.Path(self.database.folder.name)
        self.sent, lock, inner = {}, threading.Lock(), self.database.dispatch

        def record(document, ctx):
            users = ctx.connection_auth.authenticated_principals if ctx.connection_auth else []
            with lock:
                for database, user in users:
                    if database == "bedside":
                        self.sent.setdefault(user, []).append(document)
            return inner(document, ctx)

        self.database.dispatch = record
        ports = free_ports(10)
        self.nats, self.url = ports[0], f"http://127.0.0.1:{ports[1]}"
        self.admin = dict(zip(("gateway", "ingest", "query", "ecg-worker", "alarms"), ports[2:7]))
        self.query, self.ingest, self.alarms = ports[7:10]
        self.spawn(*plain_broker(self.nats, self.folder / "nats"))

    def environment(self, user=None):
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "BEDSIDE_LOG": "warn",
            "BEDSIDE_NATS": f"nats://127.0.0.1:{self.nats}",
            "BEDSIDE_NATS_MAX_STAGED": "100MB",
            "BEDSIDE_LISTEN": self.url.removeprefix("http://"),
            "BEDSIDE_QUERY": f"http://127.0.0.1:{self.query}",
            "BEDSIDE_QUERY_LISTEN": f"127.0.0.1:{self.query}",
            "BEDSIDE_INGEST": f"http://127.0.0.1:{self.ingest}",
            "BEDSIDE_INGEST_LISTEN": f"127.0.0.1:{self.ingest}",
            "BEDSIDE_ALARMS": f"http://127.0.0.1:{self.alarms}",
            "BEDSIDE_ALARMS_LISTEN": f"127.0.0.1:{self.alarms}",
            "BEDSIDE_ALARMS_ADMIN_LISTEN": f"127.0.0.1:{self.admin['alarms']}",
            "BEDSIDE_GATEWAY_ADMIN_LISTEN": f"127.0.0.1:{self.admin['gateway']}",
            "BEDSIDE_INGEST_ADMIN_LISTEN": f"127.0.0.1:{self.admin['ingest']}",
            "BEDSIDE_QUERY_ADMIN_LISTEN": f"127.0.0.1:{self.admin['query']}",
            "BEDSIDE_WORKER_ADMIN_LISTEN": f"127.0.0.1:{self.admin['ecg-worker']}",
            "BEDSIDE_GATEWAY": self.url,
            "BEDSIDE_MONGODB_PROVISIONED": "true",
            "BEDSIDE_RECONCILE_EVERY": "1s",
            "BEDSIDE_SCRUB_EVERY": "1s",
            "BEDSIDE_PENDING_AFTER": "1s",
            "BEDSIDE_ORPHAN_AGE": "1h",
        }
        if user:
            address = f"{user}:password-of-{user}@127.0.0.1:{self.database.port}"
            environment["BEDSIDE_MONGODB"] = f"mongodb://{address}/?authSource=bedside&directConnection=true"
        return environment

    def spawn(self, *command, user=None):
        output = (self.folder / "log").open("a")
        process = subprocess.Popen([str(one) for one in command], env=self.environment(user), stdout=output, stderr=output,
                                   stdin=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)

    def run_program(self, program, *arguments, user=None, feed=None):
        result = subprocess.run([PROGRAMS / program, *map(str, arguments)], env=self.environment(user), input=feed,
                                capture_output=True, timeout=120)
        self.assertEqual(result.returncode, 0, result.stderr.decode())
        return result.stdout

    def get(self, path):
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as answer:
                return answer.read().decode()
        except (urllib.error.URLError, OSError):
            return ""

    def use_everything(self):
        """Provisions, uploads, analyses, reads, exports, checks for damage, backs up and restores."""
        wait_until("the schema is created", lambda: subprocess.run(
            [PROGRAMS / "ingest", "provision"], env=self.environment("setup"), capture_output=True).returncode == 0)
        for service, user in (
                ("ingest", "ingest"), ("query", "query"), ("gateway", None), ("ecg-worker", None), ("alarms", "alarms")):
            self.spawn(PROGRAMS / service, user=user)
        wait_until("the gateway answers", lambda: self.get("/api/v1/patients"))
        strip, image = self.folder / "strip.csv", self.folder / "image.png"
        strip.write_bytes(self.run_program("bedside", "sample", "--bpm", "64"))
        image.write_bytes(png(1300))
        for mrn, name in ((7, "Ann"), (7, "Anna"), (8, "Bea")):
            rename = ["--rename"] if name == "Anna" else []
            self.run_program("bedside", "upload", "--mrn", mrn, "--name", name, *rename, "--ecg", strip, "--image", image)
        wait_until("the ECG is analysed", lambda: "latest_heart_rate" in self.get("/api/v1/patients/8")
                   and '"latest_heart_rate":null' not in self.get("/api/v1/patients/8"))
        self.run_program("bedside", "patients")
        self.run_program("bedside", "stream", "--mrn", 7, "--synthetic", "--duration", "3s")
        for path in ("wards", "clock", "patients/999", "uploads/0198c0de-0000-7000-8000-000000000001", "audit", "audit/verification"):
            self.get(f"/api/v1/{path}")
        self.run_program("bedside", "export", "7", "--to", self.folder / "export")
        ingest = f"http://127.0.0.1:{self.admin['ingest']}/metrics"

        def scrubbed():
            with urllib.request.urlopen(ingest, timeout=10) as answer:
                text = answer.read().decode()
            finished = re.search(r"^bedside_scrub_finished_timestamp_seconds (\S+)", text, re.M)
            asked = any("dbStats" in document for document in self.sent["ingest"])
            return finished and float(finished[1]) > 0 and asked
        wait_until("everything was checked, and the free space was read", scrubbed, 120)
        self.run_program("ingest", "accept-clock", user="ingest")
        archive = self.run_program("ingest", "backup", user="backup")
        self.run_program("ingest", "restore", user="backup", feed=archive)
        # A second time, so that there is something to replace.
        self.run_program("ingest", "restore", user="backup", feed=archive)
        time.sleep(2)

    def test_each_service_has_exactly_the_actions_of_its_commands(self):
        self.use_everything()
        with self.database.client("root") as root:
            roles = root.bedside.command("rolesInfo", 1, showPrivileges=True)["roles"]
        granted = {}
        for role in roles:
            for privilege in role["privileges"]:
                self.assertEqual(privilege["resource"]["db"], "bedside")
                rights = {(privilege["resource"]["collection"], action) for action in privilege["actions"]}
                granted.setdefault(role["role"].removeprefix("bedside-"), set()).update(rights)
        self.assertEqual(set(self.sent), set(granted), "every user sends commands")
        for user, documents in self.sent.items():
            needed = {(collection(document), action) for document in documents for action in actions(document)}
            everywhere = {action for name, action in granted[user] if name == ""}
            lacking = {(name, action) for name, action in needed - granted[user] if action not in everywhere}
            self.assertEqual(lacking, set(), f"{user} lacks rights")
            used = needed | {("", action) for _, action in needed}
            unused = granted[user] - used
            self.assertEqual(unused, set(), f"{user} has rights that it does not need")

    def test_no_role_of_mongodb_is_granted(self):
        text = (DEPLOY / "mongo-setup.js").read_text()
        self.assertNotRegex(text, r"readWrite|dbOwner|dbAdmin|'root', db")
        self.assertEqual(re.findall(r"roles: \[([^\]]*)\]", text), ["", "{ role: `bedside-${name}`, db: database }"])


if __name__ == "__main__":
    unittest.main()
