"""The compose files pass every setting to its program, and .env.example and docs/SETTINGS.md document every setting."""

import os
import pathlib
import re
import subprocess
import unittest

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
PROGRAMS = pathlib.Path(os.environ["BEDSIDE_TEST_PROGRAMS"])
FILES = sorted(DEPLOY.glob("compose*.yaml"))

# The service of compose.yaml that runs each program.
SERVICES = {"gateway": "gateway", "ingest": "ingest", "query": "query", "ecg-worker": "ecg-worker", "alarms": "alarms"}

# Settings that the containers must not get, with the reason.
LEFT_OUT = {
    "BEDSIDE_MONGODB": "BEDSIDE_MONGODB_FILE is set instead, so that no environment contains the password",
    "BEDSIDE_TLS_CERT": "the reverse proxy terminates TLS",
    "BEDSIDE_TLS_KEY": "as above",
    "BEDSIDE_SPOOL_DIR": "set by the image",
}


def compose():
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def settings_of(program):
    """Variables in the output of `--help`."""
    printed = subprocess.run([PROGRAMS / program, "--help"], capture_output=True, text=True, check=True)
    return set(re.findall(r"\[env: ([A-Z_]+)=?", printed.stdout))


def interpolated():
    """Variables that the compose files read: `${NAME...}` and environment variables without a value."""
    names = set()
    for file in FILES:
        names |= set(re.findall(r"\$\{([A-Z_]+)", file.read_text()))
        for service in yaml.safe_load(file.read_text())["services"].values():
            environment = service.get("environment", {})
            names |= {name for name, value in environment.items() if value is None}
    return names


def documented():
    return set(re.findall(r"^#?([A-Z_]+)=", (DEPLOY / ".env.example").read_text(), re.M))


class Settings(unittest.TestCase):
    def test_every_setting_of_a_program_reaches_its_container(self):
        services = compose()["services"]
        for program, service in SERVICES.items():
            known = settings_of(program)
            self.assertGreater(len(known), 5, f"{program} --help names its settings")
            missing = known - set(services[service]["environment"]) - set(LEFT_OUT)
            self.assertEqual(missing, set(), f"compose.yaml does not pass these settings to {service}")
            unknown = {
                name
                for name in services[service]["environment"]
                if name.startswith("BEDSIDE_") and name not in known
            }
            self.assertEqual(unknown, set(), f"{program} does not know these settings of compose.yaml")

    def test_env_example_documents_exactly_the_settings_of_the_compose_files(self):
        # COMPOSE_PROFILES is a setting of Compose; HEALTH_INTERVAL is for tests; DOOR_TLS is a former name.
        self.assertEqual(interpolated() - {"HEALTH_INTERVAL", "DOOR_TLS"}, documented() - {"COMPOSE_PROFILES"})

    def test_settings_in_the_operations_manual_exist(self):
        text = (ROOT / "docs" / "OPERATIONS.md").read_text()
        known = interpolated().union(*(settings_of(program) for program in SERVICES))
        named = set(re.findall(r"\b((?:BEDSIDE|MONGO|MONGODB|NATS|INGRESS|OBSERVE)_[A-Z_]*[A-Z])\b", text))
        self.assertEqual({name for name in named if name not in known and not name.startswith("BEDSIDE_TEST")}, set())

    def test_page_of_settings_matches_the_programs(self):
        checked = subprocess.run([ROOT / "scripts" / "settings", "--check"], capture_output=True, text=True)
        self.assertEqual(checked.returncode, 0, checked.stderr)

    def test_only_one_service_builds_the_image(self):
        services = compose()["services"]
        self.assertEqual([name for name, service in services.items() if "build" in service], ["init"])
        image = services["init"]["image"]
        self.assertEqual(sum(service["image"] == image for service in services.values()), 8)

    def test_every_container_has_a_limit_of_processes(self):
        for name, service in compose()["services"].items():
            # A number, because docker-compose 1.29 does not convert the value of a setting.
            self.assertEqual(service["pids_limit"], 4096 if name == "mongo" else 1024, name)

    def test_each_service_has_only_its_own_secrets(self):
        services = compose()["services"]
        volumes = {name: [one for one in service.get("volumes", []) if isinstance(one, str) and "secrets" in one]
                   for name, service in services.items()}
        own = {name: [f"secrets-{name}:/secrets/{name}:ro"] for name in volumes}
        all_secrets = {one.split(":")[0] for one in volumes.pop("init")}
        for name, mounted in volumes.items():
            self.assertIn(mounted, ([], own[name]), name)
            used = set(re.findall(r"/secrets/([a-z-]+)/", str(services[name].get("environment")) + str(services[name].get("command"))))
            self.assertLessEqual(used, {name}, "the service reads its own secrets")
        self.assertEqual(all_secrets, {one for one in compose()["volumes"] if one.startswith("secrets")})

    def test_broker_and_database_can_have_separate_disks(self):
        services = compose()["services"]
        self.assertIn("${NATS_DATA:-nats-data}:/var/lib/nats", services["nats"]["volumes"])
        self.assertIn("${MONGO_DATA:-mongo-data}:/data/db", services["mongo"]["volumes"])
        for volume in ("${NATS_DATA:-nats-data}:/var/lib/nats", "${MONGO_DATA:-mongo-data}:/data/db"):
            self.assertIn(volume, services["init"]["volumes"], "init sets the owner")

    def test_services_of_a_cluster_reach_brokers_on_other_machines(self):
        cluster = yaml.safe_load((DEPLOY / "compose.cluster.yaml").read_text())
        self.assertEqual(cluster["networks"], {"outside": {}})
        for name in ("setup", "backup", "ingest", "ecg-worker", "alarms", "gateway"):
            self.assertIn("outside", cluster["services"][name]["networks"])
            self.assertEqual(cluster["services"][name]["environment"]["BEDSIDE_NATS_REQUIRE_TLS"], "true")

    def test_every_container_has_a_limit_of_open_files(self):
        for name, service in compose()["services"].items():
            self.assertEqual(service["ulimits"]["nofile"], dict.fromkeys(["soft", "hard"], "${OPEN_FILES:-65536}"), name)

    def test_only_services_outside_internal_networks_reach_external_servers(self):
        external = yaml.safe_load((DEPLOY / "compose.external.yaml").read_text())
        networks = {**compose()["networks"], **external["networks"]}
        for name in ("mongo-setup", "setup", "backup", "ingest", "query", "ecg-worker", "alarms", "gateway"):
            joined = compose()["services"][name]["networks"] + external["services"].get(name, {}).get("networks", [])
            self.assertTrue(any(not networks[one].get("internal") for one in joined), name)
        for name, service in compose()["services"].items():
            self.assertFalse({"nats", "mongo"} & set(service.get("depends_on", {})), f"{name} must not depend on a bundled server")

    def test_backup_output_is_not_logged(self):
        self.assertEqual(compose()["services"]["backup"]["logging"], {"driver": "none"})

    def test_mongod_leaves_restartable_sequences_to_the_c_library(self):
        mongo = compose()["services"]["mongo"]
        self.assertEqual(mongo["environment"]["GLIBC_TUNABLES"], "glibc.pthread.rseq=1")

    def test_empty_settings_are_not_replaced_by_defaults(self):
        text = (DEPLOY / "compose.yaml").read_text()
        for name in ("MONGODB_OPTIONS", "MONGO_MEMBER"):
            self.assertNotIn("${" + name + ":-", text)


class ConnectionStrings(unittest.TestCase):
    def uri(self, **environment):
        """The connection string that deploy/init writes."""
        script = (DEPLOY / "init").read_text()
        start = script.index("uri() {")
        function = script[start : script.index("\n}\n", start) + 3]
        before = script[script.index("hosts=") : script.index("# User ids")]
        printed = subprocess.run(
            ["sh", "-eu", "-c", f"{before}\npassword() {{ printf secret; }}\n{function}\nuri query"],
            env={"PATH": os.environ["PATH"], **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        return printed.stdout.strip()

    def test_a_replica_set_is_the_default(self):
        self.assertEqual(
            self.uri(), "mongodb://query:secret@mongo:27017/bedside?authSource=bedside&replicaSet=rs0"
        )

    def test_empty_options_are_for_a_sharded_cluster(self):
        uri = self.uri(MONGODB_HOSTS="router-1:27017,router-2:27017", MONGODB_OPTIONS="")
        self.assertEqual(uri, "mongodb://query:secret@router-1:27017,router-2:27017/bedside?authSource=bedside")


if __name__ == "__main__":
    unittest.main()
