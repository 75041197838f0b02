"""Builds the packages of a release from built programs, installs them, runs what they contain, and removes them.

The .deb is installed by dpkg into a directory, with the maintainer scripts: as root, or with fakeroot. Programs are
stripped first, because those of a debug build are large."""

import configparser
import gzip
import os
import pathlib
import re
import shutil
import ssl
import subprocess
import tarfile
import tempfile
import time
import unittest
import urllib.error
import urllib.request

from broker import free_port

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BUILT = pathlib.Path(os.environ.get("BEDSIDE_TEST_PROGRAMS", TARGET / "debug"))
VERSION = re.search(r'^version = "(.*)"$', (ROOT / "Cargo.toml").read_text(), re.M)[1]
PROGRAMS = {"bedside": "bedside", "bedside-monitor": "monitor", "bedside-patient": "patient"}
EXPECTED = {
    "bin/bedside": 0o755,
    "bin/bedside-monitor": 0o755,
    "bin/bedside-patient": 0o755,
    "lib/systemd/system/bedside.service": 0o644,
    "lib/sysusers.d/bedside.conf": 0o644,
    "share/doc/bedside/SETTINGS.md": 0o644,
    "share/doc/bedside/bedside.cdx.json.gz": 0o644,
    "share/doc/bedside/CHANGELOG.md.gz": 0o644,
    "share/doc/bedside/copyright": 0o644,
    "share/doc/bedside/third-party-licences.gz": 0o644,
    **{f"share/doc/bedside/demo/{path.name}": 0o644 for path in (ROOT / "demo").iterdir()},
    "share/man/man1/bedside.1.gz": 0o644,
    **{f"share/man/man1/bedside-{app}.1.gz": 0o644 for app in ("monitor", "patient")},
    **{f"share/applications/bedside-{app}.desktop": 0o644 for app in ("monitor", "patient")},
    **{
        f"share/icons/hicolor/{folder}/apps/bedside-{app}.{suffix}": 0o644
        for app in ("monitor", "patient")
        for folder, suffix in (("scalable", "svg"), ("48x48", "png"), ("128x128", "png"), ("256x256", "png"))
    },
}


def run(*command, **options):
    """Output of a command that must succeed."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def build(programs, to, *arguments, **environment):
    run(ROOT / "deploy/package", "--programs", programs, "--to", to, "--level", "0", *arguments,
        env={**os.environ, **environment})  # fmt: skip
    [deb], [archive] = to.glob("*.deb"), to.glob("*.tar.gz")
    return deb, archive


def files(folder):
    """Mode of each file below a directory."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.stat().st_mode & 0o7777 for path in found}


def unit(path):
    """The settings of the section `Service`; a setting that occurs repeatedly has a value per line."""
    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read(path)
    return parser["Service"]


def environment_file(path):
    lines = (line for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


class Server:
    """A server with an address. It ends with the test."""

    def __init__(self, test, command, address, **options):
        self.address = address
        self.log = tempfile.TemporaryFile("w+")
        test.addCleanup(self.log.close)
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT, **options)
        test.addCleanup(self.end)

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(30)

    def get(self, path, context=None):
        """The answer, as soon as the server listens."""
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(self.address + path, timeout=10, context=context) as answer:
                    return answer.read().decode()
            except urllib.error.HTTPError:
                raise
            except (urllib.error.URLError, ConnectionError):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.log.seek(0)
                    raise AssertionError(f"the server does not answer:\n{self.log.read()}") from None
                time.sleep(0.1)


class Machine:
    """A directory into which dpkg installs."""

    def __init__(self, folder):
        self.root = folder / "root"
        admin = self.root / "var/lib/dpkg"
        (self.root / "var/log").mkdir(parents=True)
        for name in ("updates", "info", "triggers"):
            (admin / name).mkdir(parents=True)
        (admin / "status").touch()
        # The service user must be able to enter the temporary directory.
        folder.chmod(0o755)
        self.is_root = os.geteuid() == 0
        state = folder / "fakeroot"
        state.touch()
        self.prefix = [] if self.is_root else ["fakeroot", "-i", state, "-s", state]

    def dpkg(self, *arguments):
        path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
        # The libraries that the package depends on are those of the machine.
        return run(*self.prefix, "dpkg", f"--root={self.root}", "--force-script-chrootless", "--force-depends",
                   f"--log={self.root}/var/log/dpkg.log", *arguments, env={**os.environ, "PATH": path})  # fmt: skip

    def path(self, absolute):
        return self.root / absolute.lstrip("/")

    def translated(self, text):
        """Directories of the package below this root."""
        return re.sub(r"(?<![\w/])/(usr/bin|etc|var)/", rf"{self.root}/\1/", text)

    def user(self):
        """User and group of the service."""
        line = re.search(r"^bedside:[^:]*:(\d+):(\d+):", self.path("/etc/passwd").read_text(), re.M)
        return int(line[1]), int(line[2])

    def as_service(self):
        """Options to run a program as the user of the service, as systemd does."""
        if not self.is_root:
            return {"umask": 0o077}
        uid, gid = self.user()
        return {"umask": 0o077, "user": uid, "group": gid, "extra_groups": []}

    def directory_of_service(self, base, name):
        """Creates the directory as StateDirectory= and CacheDirectory= do."""
        path = self.path(f"{base}/{name}")
        if not path.exists():
            path.mkdir(parents=True, mode=0o700)
            if self.is_root:
                os.chown(path, *self.user())

    def start(self, test, **settings):
        """Starts the server with command line, environment and directories of the installed unit."""
        service = unit(self.path("/usr/lib/systemd/system/bedside.service"))
        test.assertEqual(service["User"], "bedside")
        self.directory_of_service("/var/lib", service["StateDirectory"])
        self.directory_of_service("/var/cache", service["CacheDirectory"])
        values = service["Environment"].replace("%S", "/var/lib").replace("%C", "/var/cache").split()
        values = dict(value.split("=", 1) for value in values)
        values.update(environment_file(self.path(service["EnvironmentFile"].lstrip("-"))), **settings)
        values = {name: self.translated(value) for name, value in values.items()}
        scheme = "https" if "BEDSIDE_TLS_CERT" in values else "http"
        port = values["BEDSIDE_LISTEN"].rpartition(":")[2]
        command = self.translated(service["ExecStart"]).split()
        return Server(test, command, f"{scheme}://127.0.0.1:{port}", env=values, cwd="/", **self.as_service())


class Packages(unittest.TestCase):
    def folder(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return pathlib.Path(folder.name)

    def packages(self, folder):
        programs = folder / "programs"
        programs.mkdir()
        for built in PROGRAMS.values():
            run("strip", "-o", programs / built, BUILT / built)
        return build(programs, folder / "packages")

    def test_deb_installs_serves_and_is_removed(self):
        folder = self.folder()
        deb, _ = self.packages(folder)
        run("sha256sum", "--check", "SHA256SUMS", cwd=deb.parent)
        listed = (deb.parent / "SHA256SUMS").read_text().split()[1::2]
        self.assertEqual(sorted([*listed, "SHA256SUMS"]), sorted(os.listdir(deb.parent)))

        machine = Machine(folder)
        printed = machine.dpkg("--install", deb)
        self.assertIn("the server is not started", printed)
        self.assertEqual(files(machine.path("/usr")), EXPECTED)
        self.assertEqual(files(machine.path("/etc/bedside")), {"bedside.env": 0o644})
        private = machine.path("/etc/bedside/private").stat()
        self.assertEqual(private.st_mode & 0o777, 0o700)
        if machine.is_root:
            self.assertEqual((private.st_uid, private.st_gid), machine.user())
            self.assertEqual(machine.path("/usr/bin/bedside").stat().st_uid, 0)
        for name in PROGRAMS:
            self.assertIn(VERSION, run(machine.path(f"/usr/bin/{name}"), "--version"))
        self.check_service(machine)
        self.check_public_address(machine)

        machine.dpkg("--remove", "bedside")
        self.assertEqual(files(machine.path("/usr")), {})
        self.assertTrue(machine.path("/etc/bedside/bedside.env").exists(), "settings stay until a purge")
        printed = machine.dpkg("--purge", "bedside")
        self.assertIn("the data of patients stay", printed)
        self.assertTrue(machine.path("/var/lib/bedside/patients.db").exists())
        self.assertFalse(machine.path("/etc/bedside").exists())
        self.assertFalse(machine.path("/var/cache/bedside").exists())

    def check_service(self, machine):
        """The server, as installed, serves this machine and keeps its files to itself."""
        port = free_port()
        server = machine.start(self, BEDSIDE_LISTEN=f"127.0.0.1:{port}")
        self.assertIn("gateway is ready", server.get("/readyz"))
        server.get("/livez")
        bedside = machine.path("/usr/bin/bedside")
        strip = machine.root / "strip.csv"
        strip.write_text(run(bedside, "sample", "--bpm", "64"))
        run(bedside, "upload", "--gateway", server.address, "--mrn", "7", "--name", "Ann", "--ecg", strip)
        self.assertIn("Ann", server.get("/api/v1/patients/7"))
        self.assertEqual(server.end(), 0)
        data = machine.path("/var/lib/bedside")
        modes = files(data)
        self.assertIn("patients.db", modes)
        self.assertEqual({mode & 0o077 for mode in modes.values()}, {0}, modes)

    def check_public_address(self, machine):
        """The commands and lines in the comments of the settings file make the server serve other machines."""
        settings = machine.path("/etc/bedside/bedside.env")
        text = settings.read_text()
        commands = re.findall(r"^#\s+sudo -u bedside (.*)$", text, re.M)
        self.assertEqual(len(commands), 3)
        tokens = []
        for command in commands:
            words = machine.translated(command.replace("192.0.2.7", "127.0.0.1")).split()
            words[0] = machine.path("/usr/bin/bedside")
            tokens.append(run(*words, **machine.as_service()).split()[0])
        public = re.sub(r"^BEDSIDE_LISTEN=.*\n", "", text, flags=re.M)
        public = re.sub(r"^#(BEDSIDE_\w+=)", r"\1", public, flags=re.M)
        settings.write_text(public.replace("0.0.0.0:5011", f"0.0.0.0:{free_port()}"))
        server = machine.start(self)
        trusted = machine.path("/etc/bedside/private/tls/ca.pem")
        context = ssl.create_default_context(cadata=trusted.read_text())
        server.get("/readyz", context)
        with self.assertRaises(urllib.error.HTTPError) as refused:
            server.get("/api/v1/patients", context)
        self.assertEqual(refused.exception.code, 401)
        token = trusted.with_name("token")
        token.write_text(tokens[2])
        self.assertIn("Ann", run(machine.path("/usr/bin/bedside"), "patients", "--gateway", server.address,
                                 "--ca", trusted, "--token-file", token))  # fmt: skip
        self.assertEqual(server.end(), 0)

    def test_tar_unpacks_and_runs(self):
        folder = self.folder()
        _, archive = self.packages(folder)
        with tarfile.open(archive) as packed:
            self.assertEqual({(entry.uid, entry.gid) for entry in packed.getmembers()}, {(0, 0)})
        run("tar", "-xzf", archive, cwd=folder)
        prefix = folder / archive.name.removesuffix(".tar.gz")
        further = {"etc/bedside.env": 0o644, "share/doc/bedside/LICENSE-APACHE": 0o644}
        self.assertEqual(files(prefix), {**EXPECTED, **further})
        for name in PROGRAMS:
            self.assertIn(VERSION, run(prefix / "bin" / name, "--version"))
        port = free_port()
        command = [prefix / "bin/bedside", "--data", folder / "data", "--listen", f"127.0.0.1:{port}"]
        server = Server(self, command, f"http://127.0.0.1:{port}")
        self.assertIn("gateway is ready", server.get("/readyz"))
        self.assertEqual(server.end(), 0)
        licences = gzip.decompress((prefix / "share/doc/bedside/third-party-licences.gz").read_bytes()).decode()
        for crate in ("tokio", "serde", "rusqlite", "rustls"):
            self.assertRegex(licences, rf"(?m)^{crate} \d")


class Details(unittest.TestCase):
    """Checks that need no built programs of Bedside: small programs of this machine are packed instead."""

    def small(self, program="/bin/true"):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        programs = pathlib.Path(folder.name, "programs")
        programs.mkdir()
        for built in PROGRAMS.values():
            shutil.copy(program, programs / built)
        return programs

    def test_same_programs_and_commit_give_the_same_files(self):
        programs = self.small()
        first = build(programs, programs.parent / "first", SOURCE_DATE_EPOCH="1700000000")
        (programs / "bedside").touch()
        second = build(programs, programs.parent / "second", SOURCE_DATE_EPOCH="1700000000")
        for one, other in zip(first, second):
            self.assertEqual(one.read_bytes(), other.read_bytes(), one.name)
        self.assertEqual(*(path.with_name("SHA256SUMS").read_text() for path in (first[0], second[0])))

    def test_purge_without_data_removes_the_user(self):
        programs = self.small()
        deb, _ = build(programs, programs.parent / "packages")
        machine = Machine(programs.parent)
        machine.dpkg("--install", deb)
        machine.user()
        machine.dpkg("--purge", "bedside")
        self.assertNotIn("bedside", machine.path("/etc/passwd").read_text())
        self.assertFalse(machine.path("/etc/bedside").exists())

    def test_upgrade_keeps_changed_settings_and_secrets(self):
        programs = self.small()
        deb, _ = build(programs, programs.parent / "packages")
        machine = Machine(programs.parent)
        machine.dpkg("--install", deb)
        settings, token = (machine.path(f"/etc/bedside/{name}") for name in ("bedside.env", "private/tokens"))
        settings.write_text("BEDSIDE_LISTEN=127.0.0.1:5999\n")
        token.write_text("bed-12 uploader 00\n")
        user = machine.user()
        printed = machine.dpkg("--install", deb)
        self.assertNotIn("the server is not started", printed, "an upgrade")
        self.assertEqual(settings.read_text(), "BEDSIDE_LISTEN=127.0.0.1:5999\n")
        self.assertEqual(token.read_text(), "bed-12 uploader 00\n")
        self.assertEqual(machine.user(), user)

    def test_unknown_libraries_are_rejected(self):
        programs = self.small("/bin/systemd-sysusers")
        with self.assertRaisesRegex(AssertionError, "is linked to .*: add its package to LIBRARIES"):
            build(programs, programs.parent / "packages")

    def test_desktop_entries_are_valid_and_have_icons(self):
        folder = ROOT / "deploy/packaging"
        entries = sorted(folder.glob("*.desktop"))
        self.assertEqual([entry.stem for entry in entries], ["bedside-monitor", "bedside-patient"])
        run("desktop-file-validate", *entries)
        for entry in entries:
            fields = dict(line.split("=", 1) for line in entry.read_text().splitlines()[1:])
            self.assertEqual(fields["Exec"], entry.stem)
            self.assertTrue((folder / f"icons/{fields['Icon']}.svg").exists())
            for size in (48, 128, 256):
                header = (folder / f"icons/{fields['Icon']}-{size}.png").read_bytes()[:24]
                self.assertEqual(header[:8], b"\x89PNG\r\n\x1a\n")
                self.assertEqual(header[16:], size.to_bytes(4, "big") * 2, entry.stem)

    def test_unit_is_valid_and_hardened(self):
        programs = self.small()
        root = programs.parent / "root"
        system = root / "usr/lib/systemd/system"
        system.mkdir(parents=True)
        shutil.copy(ROOT / "deploy/packaging/bedside.service", system)
        (root / "usr/bin").mkdir()
        shutil.copy("/bin/true", root / "usr/bin/bedside")
        for target in ("network-online", "time-sync", "sysinit", "basic", "shutdown", "multi-user"):
            (system / f"{target}.target").write_text("[Unit]\nDescription=for the test\n")
        printed = run("systemd-analyze", "verify", "--man=no", f"--root={root}", "bedside.service")
        self.assertEqual(printed, "")
        printed = run("systemd-analyze", "security", "--offline=yes", "--no-pager", system / "bedside.service")
        exposure = float(re.search(r"Overall exposure level for bedside.service: ([\d.]+)", printed)[1])
        self.assertLess(exposure, 1.5, printed)

    def test_unit_permits_the_system_calls_of_the_server(self):
        """systemd ends a service with EPERM for other calls; the list is that of the unit's filter."""
        known = {}
        for line in run("systemd-analyze", "syscall-filter", "--no-pager").splitlines():
            if line.startswith("@"):
                known[line.strip()] = members = set()
            elif line.strip() and not line.strip().startswith("#"):
                members.add(line.strip())

        def expanded(name):
            members = known[name]
            return {call for one in members for call in (expanded(one) if one.startswith("@") else {one})}

        lines = re.findall(r"^SystemCallFilter=(.*)$", (ROOT / "deploy/packaging/bedside.service").read_text(), re.M)
        permitted = expanded(lines[0])
        for line in lines[1:]:
            self.assertTrue(line.startswith("~"), line)
            permitted -= expanded(line[1:])
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        port = free_port()
        trace = pathlib.Path(folder.name, "trace")
        program = shutil.copy(BUILT / "bedside", folder.name)
        options = {}
        if os.geteuid() == 0:
            # SQLite makes further calls as root.
            nobody = 65534
            os.chown(folder.name, nobody, nobody)
            options = {"user": nobody, "group": nobody, "extra_groups": []}
        # -D: the server is the child of this process, and receives its signal.
        command = ["strace", "-D", "-f", "-q", "-o", trace, program, "--demo", "--data", f"{folder.name}/data"]
        server = Server(self, [*command, "--listen", f"127.0.0.1:{port}"], f"http://127.0.0.1:{port}", **options)
        self.assertIn("gateway is ready", server.get("/readyz"))
        deadline = time.monotonic() + 120
        while '"status":"analyzed"' not in server.get("/api/v1/patients"):
            self.assertLess(time.monotonic(), deadline, "no ECG was analysed")
            time.sleep(0.2)
        self.assertEqual(server.end(), 0)
        deadline = time.monotonic() + 120
        while f"{server.process.pid} +++ exited" not in trace.read_text().replace("  ", " "):
            self.assertLess(time.monotonic(), deadline, "the trace is not complete")
            time.sleep(0.2)
        used = set(re.findall(r"^\d+ +(\w+)\(", trace.read_text(), re.M))
        self.assertLess(20, len(used))
        self.assertEqual(used - permitted - {"execve"}, set())


class Windows(unittest.TestCase):
    def test_windows_name_their_desktop_entries(self):
        """Desktops show the icon of the entry that has the name of the window."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        reading, writing = os.pipe()
        command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1280x800x24"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        screen = subprocess.Popen(command, pass_fds=[writing], **quiet)
        self.addCleanup(screen.wait)
        self.addCleanup(screen.terminate)
        os.close(writing)
        with open(reading) as file:
            display = file.readline().strip()
        environment = {"PATH": os.environ["PATH"], "HOME": folder.name, "DISPLAY": f":{display}"}
        for built in ("monitor", "patient"):
            app = subprocess.Popen([BUILT / built], env=environment, stderr=subprocess.PIPE, text=True)
            self.addCleanup(app.stderr.close)
            self.addCleanup(app.wait)
            self.addCleanup(app.terminate)
            find = ["timeout", "60", "xdotool", "search", "--sync", "--class", f"^bedside-{built}$"]
            found = subprocess.run(find, env=environment, capture_output=True, text=True)
            self.assertIsNone(app.poll(), "the app ended")
            self.assertEqual(found.returncode, 0, f"no window is named bedside-{built}")
            entry = (ROOT / f"deploy/packaging/bedside-{built}.desktop").read_text()
            self.assertIn(f"\nStartupWMClass=bedside-{built}\n", entry)


if __name__ == "__main__":
    unittest.main()
