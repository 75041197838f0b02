"""deploy/init: secrets per service, and tokens of which only hashes are stored. It uses the real `bedside token`."""

import concurrent.futures
import hashlib
import os
import pathlib
import re
import subprocess
import tempfile
import unittest

import yaml

DEPLOY = pathlib.Path(__file__).resolve().parents[2] / "deploy"
PROGRAMS = pathlib.Path(os.environ["BEDSIDE_TEST_PROGRAMS"])
# Records owners, because only root can set them.
CHOWN = '#!/bin/sh\nprintf "%s %s\\n" "$1" "$2" >> "$OWNERS"\n'


class Secrets(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.bin = self.folder / "bin"
        self.bin.mkdir()
        (self.bin / "chown").write_text(CHOWN)
        (self.bin / "chown").chmod(0o755)
        (self.bin / "bedside").symlink_to(PROGRAMS / "bedside")
        self.secrets = self.folder / "secrets"

    def start(self, *arguments, secrets=None, feed="", **environment):
        secrets = secrets or self.secrets
        secrets.mkdir(exist_ok=True)
        environment = {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "SECRETS": str(secrets),
            "FORMER_SECRETS": str(self.folder / "former"),
            "OWNERS": str(self.folder / "owners"),
            **environment,
        }
        return subprocess.run([DEPLOY / "init", *arguments], env=environment, input=feed, capture_output=True, text=True, timeout=120)

    def init(self, *arguments, **more):
        result = self.start(*arguments, **more)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def tokens(self):
        """Name: (role, hash)."""
        lines = (self.secrets / "gateway" / "tokens").read_text().splitlines()
        return {line.split()[0]: tuple(line.split()[1:3]) for line in lines if not line.startswith("#")}

    def read_all(self):
        return {str(file.relative_to(self.secrets)): file.read_bytes() for file in self.secrets.rglob("*") if file.is_file()}

    def test_each_bed_and_station_has_its_own_token_that_is_printed_once(self):
        self.init()
        self.assertEqual(self.tokens(), {}, "there are no default tokens")
        printed = self.init("bed", "bed-1", "bed-2") + self.init("station", "--days", "30", "station-1")
        printed += self.init("admin", "operator")
        lines = dict(line.split("=") for line in printed.splitlines())
        self.assertEqual(len(set(lines.values())), 4)
        roles = {"bed-1": "uploader", "bed-2": "uploader", "station-1": "viewer", "operator": "admin"}
        for name, role in roles.items():
            token = lines["BEDSIDE_TOKEN_" + name.upper().replace("-", "_")]
            self.assertGreaterEqual(len(token), 64)
            self.assertEqual(self.tokens()[name], (role, hashlib.sha256(token.encode()).hexdigest()))
            for file, content in self.read_all().items():
                self.assertNotIn(token.encode(), content, file)
        listed = self.init("list")
        self.assertRegex(listed, r"station-1 +viewer +expires 20")
        self.assertRegex(listed, r"bed-1 +uploader +does not expire")
        for command in ((), ("list",), ("logins",), ("broker",)):
            self.assertFalse(any(token in self.init(*command) for token in lines.values()), command)

    def test_a_name_has_one_token(self):
        self.init()
        self.init("bed", "bed-1")
        before = self.tokens()
        result = self.start("bed", "bed-2", "bed-1", "bed-3")
        self.assertEqual(result.returncode, 1)
        self.assertIn("already contains a token of bed-1", result.stderr)
        self.assertEqual(set(self.tokens()), {"bed-1", "bed-2"})
        self.assertEqual(self.tokens()["bed-1"], before["bed-1"])
        self.assertRegex(result.stdout, r"^BEDSIDE_TOKEN_BED_2=bedside_[0-9a-f]{64}\n$", "the token of bed-2 is printed")
        for arguments in (("bed",), ("bed", "--days", "x", "bed-9"), ("bed", "two words"), ("nurse", "x"), ("rotate",)):
            self.assertNotEqual(self.start(*arguments).returncode, 0, arguments)
        self.assertEqual(set(self.tokens()), {"bed-1", "bed-2"})

    def test_rotate_and_revoke(self):
        self.init()
        self.init("bed", "bed-1", "bed-2")
        before = self.tokens()
        token = self.init("rotate", "bed-1").strip().split("=")[1]
        self.assertEqual(self.tokens()["bed-1"], ("uploader", hashlib.sha256(token.encode()).hexdigest()))
        self.assertNotEqual(self.tokens()["bed-1"], before["bed-1"])
        self.init("revoke", "bed-1")
        self.assertEqual(self.tokens(), {"bed-2": before["bed-2"]})
        self.assertEqual(self.start("revoke", "bed-1").returncode, 1)

    def test_concurrent_runs_lose_no_token(self):
        self.init()
        names = [f"bed-{number}" for number in range(8)]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda name: self.init("bed", name), names))
        self.assertEqual(set(self.tokens()), set(names))

    def test_files_belong_to_their_service_and_are_readable_by_it_only(self):
        self.init()
        self.init("bed", "bed-1")
        services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
        owners = {}
        for line in (self.folder / "owners").read_text().splitlines():
            owner, file = line.split()
            owners[os.path.relpath(file.removesuffix(".new"), self.secrets)] = owner
        for file in self.read_all():
            service = file.split("/")[0]
            if file == "own/lock":
                continue
            expected = "0:0" if service == "own" else services[service]["user"]
            self.assertEqual(owners[file], expected, file)
            self.assertEqual(owners[service], expected, service)
            self.assertEqual((self.secrets / file).stat().st_mode & 0o777, 0o400, file)
            self.assertEqual((self.secrets / service).stat().st_mode & 0o777, 0o500, service)

    def test_a_service_has_only_the_passwords_that_it_needs(self):
        self.init()
        own = {file.removeprefix("own/"): content for file, content in self.read_all().items() if file.startswith("own/")}
        expected = {
            "gateway": {"nats-gateway", "gateway-key", "query", "ingest", "alarms"},
            "query": {"query", "mongodb-query"},
            "ingest": {"nats-ingest", "mongodb-ingest", "ingest"},
            "ecg-worker": {"nats-worker"},
            "alarms": {"nats-alarms", "mongodb-alarms", "alarms", "alarm-webhooks"},
            "setup": {"nats-setup", "mongodb-setup"},
            "backup": {"nats-backup", "mongodb-backup"},
            "nats": {f"nats-{user}" for user in ("setup", "gateway", "ingest", "worker", "alarms", "monitor", "backup", "route")},
            "mongo": {"mongodb-keyfile", "mongodb-root"},
            "mongo-setup": {f"mongodb-{user}" for user in ("root", "backup", "setup", "ingest", "query", "alarms")},
            "grafana": {"grafana"},
        }
        secrets = {name: content for name, content in own.items() if len(content) == 64}
        for service, names in expected.items():
            content = b"".join(content for file, content in self.read_all().items() if file.startswith(f"{service}/"))
            self.assertEqual({name for name, secret in secrets.items() if secret in content}, names, service)

    def test_repeated_starts_change_nothing(self):
        self.init()
        self.init("bed", "bed-1")
        before = self.read_all()
        self.init()
        self.assertEqual(self.read_all(), before)

    def test_the_single_volume_of_an_earlier_version_is_moved(self):
        former = self.folder / "former"
        for folder in ("own", "gateway", "nats", "mongo"):
            (former / folder).mkdir(parents=True)
        (former / "own" / "nats-gateway").write_text("n" * 64)
        (former / "own" / "mongodb-root").write_text("m" * 64)
        (former / "own" / "clients.env").write_text("BEDSIDE_TOKEN_OPERATOR=in-clear-text\n")
        line = f"operator admin {hashlib.sha256(b'in-clear-text').hexdigest()}"
        (former / "gateway" / "tokens").write_text(f"# name role sha256\n{line}\n")
        self.assertIn("rotate them", self.init())
        self.assertEqual((self.secrets / "gateway" / "nats-password").read_text(), "n" * 64)
        self.assertEqual((self.secrets / "mongo" / "root-password").read_text(), "m" * 64)
        self.assertEqual(set(self.tokens()), {"operator"})
        for file, content in self.read_all().items():
            self.assertNotIn(b"in-clear-text", content, file)
        self.assertEqual(list(former.iterdir()), [])
        before = self.read_all()
        self.init()
        self.assertEqual(self.read_all(), before)

    def test_brokers_of_a_cluster_share_their_passwords(self):
        routes = {"NATS_ROUTES": "nats-1:6222,nats-2:6222"}
        self.init(**routes)
        printed = self.init("broker", **routes)
        other = self.folder / "other"
        self.init("join", secrets=other, feed=printed, **routes)
        self.init(secrets=other, **routes)
        for file in ("passwords.conf", "routes.conf"):
            content = (self.secrets / "nats" / file).read_text()
            self.assertEqual(content, (other / "nats" / file).read_text())
        password = re.search(r'ROUTE_PASSWORD: "([0-9a-f]{64})"', content)[1]
        for host in ("nats-1:6222", "nats-2:6222"):
            self.assertIn(f'"nats://route:{password}@{host}"', content)
        # A single broker has no user for routes.
        self.assertNotIn("ROUTE", self.init("broker"))

    def test_a_broker_with_other_passwords_does_not_join(self):
        routes = {"NATS_ROUTES": "nats-1:6222"}
        self.init(**routes)
        printed = self.init("broker", **routes)
        other = self.folder / "other"
        self.init(secrets=other, **routes)
        result = self.start("join", secrets=other, feed=printed, **routes)
        self.assertEqual(result.returncode, 1)
        self.assertIn("use new volumes", result.stderr)
        for wrong in ("", "\n".join(printed.splitlines()[:3]) + "\n", printed.replace("ROUTE", "ROOT")):
            third = self.folder / "third"
            self.assertNotEqual(self.start("join", secrets=third, feed=wrong, **routes).returncode, 0)


if __name__ == "__main__":
    unittest.main()
