"""A cluster of brokers with deploy/nats-cluster.conf: routes need a certificate and a login, and a full disk."""

import os
import socket
import ssl
import unittest

from broker import Authority, Broker, Client, fill, folder_of, free_ports, small_disk, wait_until

PASSWORD = "route-secret"
DISK_MB = 192
MEMBERS = ("nats-1", "nats-2", "nats-3")


def routes_file(ports, password=PASSWORD):
    """As deploy/init writes it."""
    lines = "".join(f'    "nats://route:{password}@localhost:{port}"\n' for port in ports)
    return f'ROUTE_PASSWORD: "{password}"\nroutes: [\n{lines}]\n'


class Cluster(unittest.TestCase):
    def setUp(self):
        self.folder = folder_of(self)
        self.authority = Authority(self.folder)
        self.ports = free_ports(len(MEMBERS))

    def member(self, name, port, authority=None, password=PASSWORD, store=None, **more):
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        authority = authority or self.authority
        certificate, key = authority.issue(name)
        replacements = {
            '"0.0.0.0:6222"': f'"127.0.0.1:{port}"',
            "/certificates/nats.pem": str(certificate),
            "/certificates/nats.key": str(key),
            "/certificates/nats-ca.pem": str(self.authority.file("ca.pem")),
        }
        replacements.update(more.pop("replacements", {}))
        broker = Broker(folder, "nats-cluster.conf", name, replacements, store, routes_file(self.ports, password),
                        f"localhost:{port}")
        self.addCleanup(broker.stop)
        return broker.start()

    def members(self, **stores):
        return [self.member(name, port, store=stores.get(name)) for name, port in zip(MEMBERS, self.ports)]

    def stream(self, brokers):
        client = Client(brokers[0].port, "setup", self.authority)
        self.addCleanup(client.close)
        stream = {"name": "BLOBS", "subjects": ["blob.>"], "storage": "file", "num_replicas": 3}
        created = client.request("$JS.API.STREAM.CREATE.BLOBS", stream, 30)
        self.assertNotIn("error", created)

    def store(self, port, body):
        client = Client(port, "gateway", self.authority)
        try:
            answer = client.request("blob.x", body, 5)
        finally:
            client.close()
        return answer if answer is not None and "error" not in answer else None

    def test_members_form_a_cluster_and_replicate(self):
        brokers = self.members()
        for broker in brokers:
            broker.ready()
        for broker in brokers:
            self.assertEqual(broker.routes(), set(MEMBERS) - {broker.name})
        self.stream(brokers)
        for broker in brokers:
            wait_until("the message is stored", lambda broker=broker: self.store(broker.port, b"1"))
        # Addresses of containers are not sent to clients.
        client = Client(brokers[0].port, "gateway", self.authority)
        self.addCleanup(client.close)
        self.assertNotIn("connect_urls", client.info)

    def test_clients_need_tls(self):
        broker = self.member("nats-1", self.ports[0])
        wait_until("the broker listens", lambda: "Server is ready" in broker.log())
        with self.assertRaises((PermissionError, OSError)):
            Client(broker.port, "gateway")
        other = Authority(self.folder, "other")
        with self.assertRaises(ssl.SSLCertVerificationError):
            Client(broker.port, "gateway", other)
        Client(broker.port, "gateway", self.authority).close()

    def assert_rejected(self, stranger, reason):
        """The broker rejects the routes of a stranger, and accepts those of the third member."""
        brokers = [self.member(name, port) for name, port in zip(MEMBERS[:2], self.ports)]
        wait_until("the members are connected", lambda: all(len(broker.routes()) == 1 for broker in brokers))
        broker = self.member("stranger", self.ports[2], **stranger)
        log = lambda: "".join(one.log() for one in [*brokers, broker])  # noqa: E731
        wait_until(f"the route is rejected: {reason}", lambda: reason in log())
        self.assertEqual([one.routes() for one in brokers], [{"nats-2"}, {"nats-1"}])
        self.assertEqual(broker.routes(), set())
        broker.stop()
        self.member("nats-3", self.ports[2])
        wait_until("the third member is connected", lambda: all("nats-3" in one.routes() for one in brokers))

    def test_a_route_with_a_wrong_password_is_rejected(self):
        self.assert_rejected({"password": "guessed"}, "authentication error")

    def test_a_route_with_a_certificate_of_another_authority_is_rejected(self):
        # The stranger knows the password and trusts the members.
        self.assert_rejected({"authority": Authority(self.folder, "other")}, "certificate signed by unknown authority")

    def test_a_route_without_tls_learns_and_sends_nothing(self):
        broker = self.member("nats-1", self.ports[0])
        wait_until("the broker listens", lambda: "Server is ready" in broker.log())
        with socket.create_connection(("127.0.0.1", self.ports[0]), timeout=30) as route:
            route.sendall(b'CONNECT {"user":"route","pass":"%s","name":"stranger"}\r\nPING\r\n' % PASSWORD.encode())
            received = b""
            try:
                while piece := route.recv(1000):
                    received += piece
            except ConnectionResetError:
                pass
        self.assertNotIn(b"PONG", received)
        self.assertEqual(broker.routes(), set())

    def test_members_on_full_disks_are_restarted_when_there_is_space(self):
        """On a full disk, a broker of a cluster disables JetStream until it is restarted."""
        stores = {name: small_disk(self, self.folder / f"disk-{name}", DISK_MB) for name in MEMBERS}
        brokers = self.members(**stores)
        for broker in brokers:
            broker.ready()
        self.stream(brokers)
        promised = [wait_until("a message is stored", lambda: self.store(brokers[0].port, b"first"))["seq"]]
        for broker in brokers[1:]:
            fill(broker.store)

        def disabled(broker):
            return "JetStream not enabled" in broker.health().get("error", "")

        for _ in range(100):
            answer = self.store(brokers[0].port, os.urandom(500_000))
            if answer is None:
                break
            promised.append(answer["seq"])
        wait_until("JetStream is disabled", lambda: any(disabled(broker) for broker in brokers[1:]))
        down = [broker for broker in brokers[1:] if disabled(broker)]
        for broker in down:
            self.assertFalse(broker.check())
            self.assertIsNone(broker.process.poll(), "a broker on a full disk is not restarted")
        for broker in brokers[1:]:
            (broker.store / "ballast").unlink()

        def repaired():
            """Runs the health checks, and restarts brokers that they ended, as Docker does."""
            for broker in brokers:
                if not broker.check() and disabled(broker):
                    broker.process.wait(30)
                if broker.process.poll() is not None:
                    broker.start()
            return all(broker.health()["status"] == "ok" for broker in brokers)

        self.assertTrue(all(disabled(broker) for broker in down), "the broker does not recover by itself")
        wait_until("all brokers are healthy", repaired, 120)
        answer = wait_until("messages are stored again", lambda: self.store(brokers[1].port, b"last"))
        client = Client(brokers[1].port, "setup", self.authority)
        self.addCleanup(client.close)
        state = client.request("$JS.API.STREAM.INFO.BLOBS", {})["state"]
        self.assertGreater(answer["seq"], max(promised))
        self.assertEqual(state["messages"], state["last_seq"], "no acknowledged message is lost")


if __name__ == "__main__":
    unittest.main()
