"""Permanent errors of the database end the start of a service with a message and exit code 64."""

import os
import pathlib
import socket
import subprocess
import time
import unittest

import pymongo
from broker import free_port, plain_broker
from database import Database

PROGRAMS = pathlib.Path(os.environ["BEDSIDE_TEST_PROGRAMS"])


class PermanentErrors(unittest.TestCase):
    def setUp(self):
        self.database = Database()
        self.addCleanup(self.database.close)
        self.database.set_up(self)
        self.nats_port = free_port()
        command = plain_broker(self.nats_port, self.database.folder.name)
        broker = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        self.addCleanup(broker.wait)
        self.addCleanup(broker.kill)
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.nats_port), 1).close()
                break
            except OSError:
                time.sleep(0.05)

    def start(self, *command, user, password=None):
        password = password or f"password-of-{user}"
        uri = f"mongodb://{user}:{password}@127.0.0.1:{self.database.port}/?authSource=bedside&directConnection=true"
        environment = {
            "PATH": os.environ["PATH"],
            "BEDSIDE_MONGODB": uri,
            "BEDSIDE_NATS": f"nats://127.0.0.1:{self.nats_port}",
            "BEDSIDE_NATS_MAX_STAGED": "100MB",
            "BEDSIDE_INGEST_ADMIN_LISTEN": "127.0.0.1:0",
            "BEDSIDE_QUERY_LISTEN": "127.0.0.1:0",
            "BEDSIDE_QUERY_ADMIN_LISTEN": "127.0.0.1:0",
        }
        command = [PROGRAMS / command[0], *command[1:]]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    def assert_ends(self, result, *words):
        self.assertEqual(result.returncode, 64, result.stdout + result.stderr)
        last = result.stderr.strip().splitlines()[-1]
        for word in words:
            self.assertIn(word, last)

    def test_wrong_password_ends_each_start(self):
        for command, user in ((("ingest", "provision"), "setup"), (("ingest",), "ingest"), (("query",), "query")):
            with self.subTest(command):
                result = self.start(*command, user=user, password="wrong")
                self.assert_ends(result, "refuses this user", "check the connection string")

    def test_missing_rights_end_each_start(self):
        for command, user in ((("ingest", "provision"), "query"), (("ingest",), "ingest"), (("query",), "setup")):
            with self.subTest(command):
                # Without --mongodb-provisioned, ingest creates indexes, which this user is not permitted to do.
                self.assert_ends(self.start(*command, user=user), "refuses this user", "rights")

    def test_index_that_differs_ends_the_provisioning(self):
        keys = [("mrn", pymongo.ASCENDING), ("at", pymongo.DESCENDING), ("_id", pymongo.DESCENDING)]
        name = "mrn_1_at_-1__id_-1"
        with self.database.client("root") as root:
            for existing in ({"keys": keys, "unique": True}, {"keys": [("mrn", pymongo.ASCENDING)], "name": name}):
                root.bedside.heart_rates.drop()
                root.bedside.heart_rates.create_index(**existing)
                result = self.start("ingest", "provision", user="setup")
                self.assert_ends(result, "an index differs", "drop it")
            root.bedside.heart_rates.drop()
        result = self.start("ingest", "provision", user="setup")
        self.assertEqual(result.returncode, 0, result.stderr)


if __name__ == "__main__":
    unittest.main()
