"""Checks of the crates that Bedside depends on: the software bill of materials (SBOM), and the check for advisories."""

import json
import os
import pathlib
import re
import subprocess
import tempfile
import tomllib
import unittest
import uuid

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = ("bedside-standalone", "bedside-monitor", "bedside-patient")
# Unmaintained, and not needed by anything that is linked. Scanners also report crates that only a lock file names.
UNMAINTAINED = {"bincode": "cargo update -p typed-index-collections --precise 3.2.3"}


def cargo(*arguments):
    return subprocess.run(["cargo", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def locked(path="Cargo.lock"):
    return {(one["name"], one["version"]): one for one in tomllib.loads((ROOT / path).read_text())["package"]}


def sbom():
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    return subprocess.run([ROOT / "scripts/sbom"], env=environment, check=True, stdout=subprocess.PIPE).stdout


class Sbom(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.printed = sbom()
        cls.bom = json.loads(cls.printed)
        cls.components = {(one["name"], one["version"]): one for one in cls.bom["components"]}
        cls.manifests = {
            (one["name"], one["version"]): one
            for one in json.loads(cargo("metadata", "--format-version", "1", "--locked"))["packages"]
        }

    def test_required_fields_of_cyclonedx_are_present(self):
        bom = self.bom
        self.assertEqual((bom["bomFormat"], bom["specVersion"], bom["version"]), ("CycloneDX", "1.5", 1))
        self.assertEqual(bom["serialNumber"], f"urn:uuid:{uuid.UUID(bom['serialNumber'][9:])}")
        self.assertEqual(bom["metadata"]["timestamp"], "2023-11-14T22:13:20Z")
        product = bom["metadata"]["component"]
        self.assertEqual((product["type"], product["name"]), ("application", "bedside"))
        self.assertEqual(sbom(), self.printed, "two runs differ")
        for one in bom["components"]:
            with self.subTest(one["name"]):
                self.assertEqual(one["type"], "library")
                self.assertIn(one["scope"], ("required", "excluded"))
                self.assertRegex(one["purl"], r"^pkg:(cargo|generic)/[\w./-]+@\d[\w.%-]*$")
                [licence] = one["licenses"]
                self.assertTrue(licence.get("expression") or licence["license"]["name"])
        references = [product["bom-ref"], *(one["bom-ref"] for one in bom["components"])]
        self.assertEqual(len(references), len(set(references)))
        edges = {one["ref"]: one["dependsOn"] for one in bom["dependencies"]}
        self.assertEqual(sorted(edges), sorted(references))
        self.assertLessEqual({used for uses in edges.values() for used in uses}, set(references))
        reached, waiting = set(), [product["bom-ref"]]
        while waiting:
            one = waiting.pop()
            if one not in reached:
                reached.add(one)
                waiting.extend(edges[one])
        self.assertEqual(reached, set(references), "each component belongs to the product")

    def test_each_linked_crate_is_listed_with_version_purl_and_licence(self):
        lock = locked()
        # The options are those of a release build: features of one program can change what another one links.
        linked = set()
        printed = cargo(
            "tree", "--locked", *(argument for program in PROGRAMS for argument in ("-p", program)),
            "--features", "bedside-standalone/full-stack", "--edges", "no-build,no-dev,no-proc-macro", "--prefix", "none",
        )  # fmt: skip
        for line in printed.splitlines():
            if found := re.match(r"(\S+) v(\S+)", line):
                linked.add(found.groups())
        self.assertLess(300, len(linked))
        for crate in sorted(linked):
            with self.subTest(crate):
                one = self.components[crate]
                self.assertEqual(one["scope"], "required")
                licence = self.manifests[crate]["license"].replace("/", " OR ")
                self.assertEqual(one["licenses"], [{"expression": licence}])
                if checksum := lock[crate].get("checksum"):
                    self.assertEqual(one["purl"], f"pkg:cargo/{crate[0]}@{crate[1].replace('+', '%2B')}")
                    self.assertEqual(one["hashes"], [{"alg": "SHA-256", "content": checksum}])
        required = {crate for crate, one in self.components.items() if one["scope"] == "required"}
        foreign = {crate for crate in required if crate[0] == "sqlite" and crate not in lock}
        self.assertEqual(required - linked, foreign, "required, but not linked")

    def test_crates_of_tests_are_absent_and_bundled_libraries_are_present(self):
        names = {name for name, _ in self.components}
        for absent in ("proptest", "testkit", "tests", "benchmarks", "i-slint-backend-testing"):
            self.assertNotIn(absent, names)
        for present in ("rustls", "slint", "mongodb"):
            self.assertIn(present, names)
        [version] = [version for name, version in self.components if name == "sqlite" and version[0] == "3"]
        sqlite = self.components["sqlite", version]
        self.assertEqual(sqlite["cpe"], f"cpe:2.3:a:sqlite:sqlite:{version}:*:*:*:*:*:*:*")
        macros = [one["scope"] for (name, _), one in self.components.items() if name == "serde_derive"]
        self.assertEqual(macros, ["excluded"])


class Advisories(unittest.TestCase):
    def check(self, script, **settings):
        """Runs scripts/advisories with a script in place of cargo-deny."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        deny = pathlib.Path(folder.name, "cargo-deny")
        deny.write_text(f"#!/bin/sh\n{script}\n")
        deny.chmod(0o755)
        # Cargo itself keeps its directory.
        cargo = pathlib.Path(folder.name, "cargo")
        cargo.write_text("#!/bin/sh\n")
        cargo.chmod(0o755)
        self.home = pathlib.Path(folder.name, "home")
        for path in settings.pop("copies", []):
            (self.home / "advisory-dbs" / path / "crates").mkdir(parents=True)
        path = f"{folder.name}:{os.environ['PATH']}"
        environment = {**os.environ, "CARGO_HOME": str(self.home), "PATH": path, **settings}
        return subprocess.run(
            [ROOT / "scripts/advisories", deny], env=environment, capture_output=True, text=True, timeout=60
        )

    def test_without_a_database_the_check_is_skipped_with_a_message(self):
        done = self.check('case "$*" in *"fetch db") echo "no network" >&2; exit 1 ;; esac; exit 9')
        self.assertEqual(done.returncode, 0)
        self.assertEqual(done.stdout, "NOT TESTED: advisories (the database cannot be fetched: no network)\n")

    def test_a_network_that_does_not_answer_does_not_hang_the_check(self):
        done = self.check("exec sleep 300", BEDSIDE_ADVISORIES_WAIT="1")
        self.assertEqual(done.returncode, 0)
        self.assertIn("NOT TESTED: advisories", done.stdout)

    def test_an_advisory_fails_the_check(self):
        done = self.check('case "$*" in *"fetch db") exit 0 ;; esac; echo RUSTSEC-0000-0000 >&2; exit 1')
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("RUSTSEC-0000-0000", done.stderr)

    def test_an_earlier_copy_is_used_without_network(self):
        script = 'case "$*" in *"fetch db") exit 1 ;; *--offline*) exit 7 ;; esac'
        done = self.check(script, copies=["advisory-db-0"])
        self.assertEqual(done.returncode, 7)
        self.assertIn("an earlier copy is used", done.stdout)

    def test_lock_files_contain_no_unmaintained_crates_that_are_not_needed(self):
        for path in ("Cargo.lock", "fuzz/Cargo.lock"):
            for name, _ in locked(path):
                self.assertNotIn(name, UNMAINTAINED, f"{path} contains {name}: {UNMAINTAINED.get(name)}")

    def test_ignored_advisories_name_crates_that_are_used(self):
        configured = tomllib.loads((ROOT / "deny.toml").read_text())
        names = {name for name, _ in locked()}
        for ignored in configured["advisories"]["ignore"]:
            self.assertRegex(ignored["id"], r"^RUSTSEC-\d{4}-\d{4}$")
            crate = ignored["reason"].split()[0]
            self.assertIn(crate, names, f"{ignored['id']} is no longer needed")
            # Only crates that are stated may use it.
            self.assertIn(crate, [banned["name"] for banned in configured["bans"]["deny"]])


if __name__ == "__main__":
    unittest.main()
