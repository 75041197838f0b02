"""Checks of alert rules and of the configuration of Prometheus and Alertmanager with promtool and amtool."""

import os
import pathlib
import subprocess
import unittest

import yaml

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OBSERVABILITY = ROOT / "deploy" / "observability"
TOOLS = pathlib.Path(os.environ["BEDSIDE_TEST_PROMETHEUS"])


def run(program, *arguments):
    command = [TOOLS / program, *arguments]
    result = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=120)
    return result.returncode, result.stdout + result.stderr


class Alerts(unittest.TestCase):
    def rules(self):
        groups = yaml.safe_load((OBSERVABILITY / "alerts.yml").read_text())["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def test_rules_and_configuration_are_valid(self):
        for check in (("rules", "alerts.yml"), ("config", "--syntax-only", "prometheus.yml")):
            status, printed = run("promtool", "check", *check[:-1], OBSERVABILITY / check[-1])
            self.assertEqual(status, 0, printed)
        status, printed = run("amtool", "check-config", OBSERVABILITY / "alertmanager.yml")
        self.assertEqual(status, 0, printed)

    def test_rules_fire_under_their_conditions_with_the_right_text(self):
        status, printed = run("promtool", "test", "rules", "alerts.yml")
        self.assertEqual(status, 0, printed)

    def test_every_rule_is_tested(self):
        tests = yaml.safe_load((HERE / "alerts.yml").read_text())["tests"]
        fires = {
            case["alertname"] for test in tests for case in test["alert_rule_test"] if case["exp_alerts"]
        }
        self.assertEqual(fires, {rule["alert"] for rule in self.rules()})

    def test_operations_manual_documents_every_alert(self):
        text = (ROOT / "docs" / "OPERATIONS.md").read_text()
        for rule in self.rules():
            self.assertIn(f"| `{rule['alert']}` |", text)

    def test_alerts_are_routed_by_severity(self):
        configuration = OBSERVABILITY / "alertmanager.yml"
        for severity, receiver in (("page", "page"), ("warn", "warn")):
            status, printed = run(
                "amtool", "config", "routes", "test", f"--config.file={configuration}", f"severity={severity}"
            )
            self.assertEqual((status, printed.split("\n")[0]), (0, receiver))


if __name__ == "__main__":
    unittest.main()
