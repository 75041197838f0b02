"""nats-server with the shipped configuration, and a minimal client, for tests."""

import json
import os
import pathlib
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

DEPLOY = pathlib.Path(__file__).resolve().parents[2] / "deploy"
USERS = ("setup", "gateway", "ingest", "worker", "monitor", "backup")
TIMEOUT_S = 60


def plain_broker(port, store):
    """The command of a broker without permissions. Its storage limit does not depend on the free disk space: streams reserve
    their space at creation, and the default of the server is a share of what is free."""
    store = pathlib.Path(store)
    store.mkdir(parents=True, exist_ok=True)
    config = store / "plain.conf"
    config.write_text(f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{store}", max_file_store: 1TB }}\n')
    return [os.environ["BEDSIDE_TEST_NATS_SERVER"], "--config", str(config)]


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def free_port():
    return free_ports(1)[0]


def wait_until(what, condition, timeout_s=TIMEOUT_S):
    deadline = time.monotonic() + timeout_s
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"timeout: {what}")
        time.sleep(0.1)


def replaced(text, replacements):
    for before, after in replacements.items():
        assert before in text, f"the shipped configuration contains {before}"
        text = text.replace(before, after)
    return text


class Authority:
    """A certificate authority with files in a directory."""

    def __init__(self, folder, name="authority"):
        self.folder, self.name = pathlib.Path(folder), name
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                     "-subj", f"/CN={name}", "-keyout", self.file("ca.key"), "-out", self.file("ca.pem"))

    def file(self, name):
        return self.folder / f"{self.name}-{name}"

    def openssl(self, *arguments):
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)

    def issue(self, name, host="localhost"):
        """Creates a certificate for servers and clients. Returns the files of certificate and key."""
        key, request, certificate = self.file(f"{name}.key"), self.file(f"{name}.csr"), self.file(f"{name}.pem")
        extensions = self.file(f"{name}.ext")
        extensions.write_text(f"subjectAltName=DNS:{host},IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n")
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
                     "-keyout", key, "-out", request)
        self.openssl("x509", "-req", "-in", request, "-CA", self.file("ca.pem"), "-CAkey", self.file("ca.key"),
                     "-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", certificate)
        return certificate, key


class Broker:
    """A nats-server with a configuration of deploy/. Ports and directories differ from those of the container."""

    def __init__(self, folder, config="nats.conf", name="nats", replacements=None, store=None, routes="", advertise=""):
        self.folder = pathlib.Path(folder)
        self.name, self.config = name, config
        self.port, self.monitor = free_ports(2)
        self.store = store or self.folder / "store"
        self.store.mkdir(parents=True, exist_ok=True)
        etc, secrets = self.folder / "etc" / "nats", self.folder / "secrets" / "nats"
        etc.mkdir(parents=True)
        secrets.mkdir(parents=True)
        ports = {"port: 4222": f"port: {self.port}", "127.0.0.1:8222": f"127.0.0.1:{self.monitor}"}
        shipped = replaced((DEPLOY / "nats.conf").read_text(), {**ports, "/var/lib/nats": str(self.store)})
        (etc / "nats.conf").write_text(shipped)
        if config != "nats.conf":
            (etc / config).write_text(replaced((DEPLOY / config).read_text(), replacements or {}))
        passwords = "".join(f'{user.upper()}_PASSWORD: "{user}-secret"\n' for user in USERS)
        (secrets / "passwords.conf").write_text(passwords)
        (secrets / "routes.conf").write_text(routes)
        self.advertise = advertise
        self.process = None

    def start(self):
        environment = {"NATS_SERVER_NAME": self.name, "NATS_MAX_FILE": "1GB", "NATS_ADVERTISE": f'"{self.advertise}"'}
        log = (self.folder / "log").open("a")
        command = [os.environ["BEDSIDE_TEST_NATS_SERVER"], "--config", self.folder / "etc" / "nats" / self.config]
        self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        log.close()
        return self

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def log(self):
        return (self.folder / "log").read_text()

    def health(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.monitor}/healthz", timeout=5) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return json.load(error)
        except OSError as error:
            return {"status": "unreachable", "error": str(error)}

    def ready(self):
        try:
            wait_until("the broker is healthy", lambda: self.health()["status"] == "ok")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.health()}\n{self.log()[-3000:]}") from None
        return self

    def routes(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.monitor}/routez", timeout=5) as answer:
            return {route["remote_name"] for route in json.load(answer)["routes"] or []}

    def check(self, metrics=""):
        """Runs the health check of the container."""
        arguments = ["127.0.0.1", str(self.monitor), str(self.process.pid), str(self.store), str(metrics)]
        return subprocess.run(["sh", DEPLOY / "nats-health", *arguments], timeout=60).returncode == 0


class Client:
    """A connection as one of the users. Requests are made one after the other."""

    def __init__(self, port, user, authority=None, password=None):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.lines = self.socket.makefile("rb")
        self.info = json.loads(self.lines.readline().removeprefix(b"INFO "))
        if authority is not None:
            context = ssl.create_default_context(cafile=authority.file("ca.pem"))
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
            self.lines = self.socket.makefile("rb")
        self.inbox = f"_INBOX_{user}"
        login = {"user": user, "pass": password or f"{user}-secret", "verbose": False, "headers": True, "no_responders": True}
        self.send(f"CONNECT {json.dumps(login)}\r\nSUB {self.inbox}.> 1\r\nPING\r\n")
        first = self.lines.readline()
        if first != b"PONG\r\n":
            raise PermissionError(first.decode())
        self.number = 0

    def send(self, text):
        self.socket.sendall(text.encode())

    def request(self, subject, body, timeout_s=10):
        """The answer, or None without one in time. The connection cannot be used after that."""
        self.number += 1
        reply, data = f"{self.inbox}.{self.number}", body if isinstance(body, bytes) else json.dumps(body).encode()
        deadline = time.monotonic() + timeout_s
        self.socket.settimeout(timeout_s)
        self.socket.sendall(f"PUB {subject} {reply} {len(data)}\r\n".encode() + data + b"\r\n")
        try:
            # A ping of the server ends a read without an answer.
            while time.monotonic() < deadline and (line := self.lines.readline()):
                words = line.split()
                if words[0] == b"PING":
                    self.send("PONG\r\n")
                elif words[0] == b"-ERR":
                    raise PermissionError(line.decode())
                elif words[0] in (b"MSG", b"HMSG"):
                    content = self.lines.read(int(words[-1]) + 2)[:-2]
                    if words[1].decode() == reply:
                        return json.loads(content) if words[0] == b"MSG" else {"error": content.decode()}
        except TimeoutError:
            pass
        return None

    def close(self):
        self.socket.close()


def folder_of(test):
    """A directory that exists until the end of the test."""
    folder = tempfile.TemporaryDirectory()
    test.addCleanup(folder.cleanup)
    return pathlib.Path(folder.name)


def small_disk(test, folder, megabytes):
    """Mounts a small file system, which needs root, until the end of the test."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder], check=True)
    test.addCleanup(subprocess.run, ["umount", "--lazy", folder], check=True)
    return folder


def fill(folder):
    with (folder / "ballast").open("wb", buffering=0) as ballast:
        for size in (1 << 20, 4096):
            try:
                while True:
                    ballast.write(bytes(size))
            except OSError:
                pass
