"""deploy/pin pins every image by digest. A fake `docker` answers instead of a registry."""

import hashlib
import os
import pathlib
import re
import subprocess
import tempfile
import unittest

DEPLOY = pathlib.Path(__file__).resolve().parents[2] / "deploy"
FAKE = """#!/bin/sh
case "$1 $2" in
"pull --quiet") [ "$3" != "$MISSING" ] ;;
"image inspect")
    # Another name of the same image has no digest here.
    printf '%s\\n' "$5"
    printf '%s@sha256:%s\\n' "${5%:*}" "$(printf '%s%s' "$5" "$MOVED" | sha256sum | cut -d' ' -f1)" ;;
*) exit 1 ;;
esac
"""


class Images(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.env = self.folder / "env"
        fake = self.folder / "docker"
        fake.write_text(FAKE)
        fake.chmod(0o755)

    def pin(self, *arguments, missing="", moved=""):
        path = f"{self.folder}:{os.environ['PATH']}"
        environment = {"PATH": path, "ENV_FILE": str(self.env), "MISSING": missing, "MOVED": moved}
        return subprocess.run([DEPLOY / "pin", *arguments], env=environment, capture_output=True, text=True, timeout=60)

    def settings(self):
        return dict(line.split("=", 1) for line in self.env.read_text().splitlines() if re.match("[A-Z]", line))

    def assert_pinned(self, image, tagged, moved=""):
        digest = hashlib.sha256((tagged + moved).encode()).hexdigest()
        self.assertEqual(image, f"{tagged}@sha256:{digest}")

    def test_every_image_of_another_project_is_pinned(self):
        self.assertEqual(self.pin().returncode, 0)
        text = "".join(file.read_text() for file in DEPLOY.glob("compose*.yaml"))
        named = set(re.findall(r"\$\{([A-Z_]*IMAGE):-", text)) - {"BEDSIDE_IMAGE"}
        self.assertEqual(set(self.settings()), named)
        self.assertEqual(len(re.findall(r"^ *image:", text, re.M)), len(re.findall(r"^ *image: \$\{", text, re.M)))
        self.assert_pinned(self.settings()["NATS_IMAGE"], "nats:2.15.0-alpine")
        for line in (DEPLOY / "Dockerfile").read_text().splitlines():
            if match := re.match(r"FROM \$\{([A-Z_]+)\}", line):
                self.assertIn(match[1], named)
            elif line.startswith("FROM"):
                self.assertRegex(line, r"^FROM runtime AS", "the base image can be pinned")
        self.assertEqual(self.pin("--check").returncode, 0)

    def test_other_settings_and_the_mode_of_the_file_stay(self):
        self.env.write_text("# ours\nBEDSIDE_PORT=80\nMONGO_IMAGE=mongo:7.0\n")
        self.env.chmod(0o640)
        self.assertEqual(self.pin().returncode, 0)
        self.assert_pinned(self.settings()["MONGO_IMAGE"], "mongo:7.0")
        self.assertEqual(self.settings()["BEDSIDE_PORT"], "80")
        self.assertTrue(self.env.read_text().startswith("# ours\n"))
        self.assertEqual(self.env.stat().st_mode & 0o777, 0o640)

    def test_a_second_run_follows_the_tags(self):
        self.assertEqual(self.pin().returncode, 0)
        before = self.env.read_text()
        self.assertEqual(self.pin().returncode, 0)
        self.assertEqual(self.env.read_text(), before)
        self.assertEqual(self.pin(moved="later").returncode, 0)
        self.assert_pinned(self.settings()["NATS_IMAGE"], "nats:2.15.0-alpine", "later")

    def test_nothing_changes_if_one_image_cannot_be_pulled(self):
        self.env.write_text("BEDSIDE_PORT=80\n")
        result = self.pin(missing="mongo:8.0")
        self.assertEqual(result.returncode, 1)
        self.assertIn("mongo:8.0 cannot be pulled", result.stderr)
        self.assertEqual(self.env.read_text(), "BEDSIDE_PORT=80\n")

    def test_shipped_images_are_pinned_and_the_dockerfile_has_the_same_ones(self):
        self.assertEqual(self.pin("--check").returncode, 0)
        text = (DEPLOY / "compose.yaml").read_text()
        for setting, image in re.findall(r"^ARG ([A-Z]+_IMAGE)=(.*)$", (DEPLOY / "Dockerfile").read_text(), re.M):
            self.assertIn(f"{setting}: ${{{setting}:-{image}}}", text)

    def test_check_names_images_that_are_not_pinned(self):
        self.assertEqual(self.pin().returncode, 0)
        with self.env.open("a") as env:
            env.write("NATS_IMAGE=nats:2.15-alpine\n")
        result = self.pin("--check")
        self.assertEqual((result.returncode, result.stderr), (1, "pin: not pinned by digest: NATS_IMAGE\n"))


if __name__ == "__main__":
    unittest.main()
