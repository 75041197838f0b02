"""The broker with the shipped configuration: its settings, dead clients, and the health check on a full disk."""

import os
import re
import socket
import time
import unittest

from broker import DEPLOY, Broker, Client, fill, folder_of, small_disk, wait_until

# Free space that the health check wants for a restart, and more.
DISK_MB = 256


def metrics(file):
    return dict(line.split() for line in file.read_text().splitlines() if not line.startswith("#"))


class Configuration(unittest.TestCase):
    def test_every_write_is_synced_in_every_configuration(self):
        # With an interval, a power failure loses acknowledged messages.
        text = (DEPLOY / "nats.conf").read_text()
        self.assertEqual(re.findall(r"^\s*sync_interval:\s*(\S+)", text, re.M), ["always"])
        self.assertIn('include "./nats.conf"', (DEPLOY / "nats-cluster.conf").read_text())
        for file in [*DEPLOY.glob("nats*.conf"), DEPLOY.parent / "docs" / "OPERATIONS.md"]:
            self.assertNotRegex(file.read_text(), r"sync_interval\W+\d|\b2m\b", file.name)

    def test_a_client_that_does_not_answer_is_disconnected_within_seconds(self):
        broker = Broker(folder_of(self)).start()
        self.addCleanup(broker.stop)
        broker.ready()
        client = Client(broker.port, "monitor")
        self.addCleanup(client.close)
        started = time.monotonic()
        client.socket.settimeout(60)
        received = b""
        try:
            while piece := client.socket.recv(1000):
                received += piece
        except ConnectionResetError:
            pass
        # Three intervals of 5 s, of which the first one can be longer by a random part.
        self.assertLess(time.monotonic() - started, 25, received)
        self.assertIn(b"PING", received)


class FullDisk(unittest.TestCase):
    def setUp(self):
        folder = folder_of(self)
        self.broker = Broker(folder, store=small_disk(self, folder / "disk", DISK_MB)).start()
        self.addCleanup(self.broker.stop)
        self.broker.ready()
        self.metrics = folder / "metrics" / "nats.prom"
        self.metrics.parent.mkdir()

    def client(self, user):
        client = Client(self.broker.port, user)
        self.addCleanup(client.close)
        return client

    def fail_a_write(self):
        stream = {"name": "BLOBS", "subjects": ["blob.>"], "storage": "file", "num_replicas": 1}
        created = self.client("setup").request("$JS.API.STREAM.CREATE.BLOBS", stream)
        self.assertNotIn("error", created)
        self.assertEqual(self.client("gateway").request("blob.x", b"first")["seq"], 1)
        fill(self.broker.store)
        client = self.client("gateway")
        for _ in range(1000):
            answer = client.request("blob.x", os.urandom(100_000), timeout_s=5)
            if answer is None or "error" in answer:
                break
        else:
            self.fail("a broker on a full disk accepts messages")
        wait_until("the broker reports the failed write", lambda: "write error" in self.broker.health().get("error", ""))

    def test_a_broker_is_restarted_when_there_is_space_and_not_before(self):
        self.assertTrue(self.broker.check(self.metrics))
        self.assertEqual(metrics(self.metrics)["nats_healthy"], "1")
        self.fail_a_write()
        for _ in range(3):
            self.assertFalse(self.broker.check(self.metrics))
        self.assertIsNone(self.broker.process.poll(), "a broker on a full disk is not restarted")
        self.assertEqual(metrics(self.metrics)["nats_healthy"], "0")
        self.assertLess(int(metrics(self.metrics)["nats_disk_free_bytes"]), 1 << 20)
        (self.broker.store / "ballast").unlink()
        self.assertEqual(self.broker.health()["status"], "unavailable", "the broker does not recover by itself")
        self.assertFalse(self.broker.check(self.metrics))
        self.broker.process.wait(60)
        # As Docker does.
        self.broker.start().ready()
        self.assertTrue(self.broker.check(self.metrics))
        self.assertEqual(self.client("gateway").request("blob.x", b"second").get("error"), None)

    def test_metrics_state_space_and_limits(self):
        self.assertTrue(self.broker.check(self.metrics))
        values = {name: int(value) for name, value in metrics(self.metrics).items()}
        self.assertEqual(values["nats_disk_size_bytes"], DISK_MB << 20)
        self.assertLess(0, values["nats_disk_free_bytes"])
        self.assertEqual(values["nats_storage_limit_bytes"], 1 << 30)
        self.assertEqual(values["nats_storage_used_bytes"], 0)
        self.assertEqual(self.metrics.stat().st_mode & 0o777, 0o644, "node_exporter can read the file")
        self.assertEqual(os.listdir(self.metrics.parent), ["nats.prom"])

    def test_a_broker_that_starts_or_is_unreachable_is_not_restarted(self):
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            self.broker.monitor = silent.getsockname()[1]
            self.assertFalse(self.broker.check(self.metrics))
        self.assertIsNone(self.broker.process.poll())
        self.assertEqual(metrics(self.metrics)["nats_healthy"], "0")


if __name__ == "__main__":
    unittest.main()
