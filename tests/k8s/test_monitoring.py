"""Alerts and dashboard: they parse, each alert fires and stays quiet as meant, and they name metrics that exist."""

import json
import pathlib
import re
import tempfile
import unittest

import yaml

import alert_cases
import kit
from running import Running

RULES = sorted((kit.ROOT / "deploy/prometheus").glob("*.yaml"))
DASHBOARD = kit.ROOT / "deploy/grafana/hookward.json"
# Of Prometheus itself.
NOT_OURS = {"up"}


def promtool(*args, **more):
    return kit.run(kit.PROMTOOL, *args, **more)


def rules(paths=RULES):
    return [rule for path in paths for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


def rendered_groups(**values):
    documents = kit.render(kit.merged(kit.MINIMAL, {"prometheusRule": {"enabled": True, **values}}))
    return kit.one(documents, "PrometheusRule")["spec"]["groups"]


def metric_names(expression):
    """Every metric of an expression: words outside of strings, label lists and functions."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", bare)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", bare)
    words = re.findall(r"\b[a-z_][a-z0-9_]*\b(?!\s*\()", bare)
    return {word for word in words if word not in {"and", "or", "unless", "bool", "offset", "by", "e"}}


def dashboard_expressions():
    """As Prometheus gets them, with the variables filled in."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    for panel in panels:
        for target in panel.get("targets", []):
            yield panel["title"], re.sub(r"\$__rate_interval", "5m", re.sub(r'"\$(job|instance|route)"', '".*"', target["expr"]))


class Alerts(unittest.TestCase):
    def promtool_test(self, cases):
        """Runs cases (alert, series, minutes, expected) against the rules as the chart renders them."""
        with tempfile.TemporaryDirectory() as scratch:
            scratch = pathlib.Path(scratch)
            (scratch / "rules.yaml").write_text(yaml.safe_dump({"groups": rendered_groups(noWebhooks=True)}))
            promtool("check", "rules", scratch / "rules.yaml")
            for step in (1, alert_cases.SLOW_STEP):
                tests = [self.case(step, *case) for case in cases if step == alert_cases.step(case[0])]
                test = {"rule_files": ["rules.yaml"], "evaluation_interval": f"{step}m", "tests": tests}
                (scratch / "test.yaml").write_text(yaml.safe_dump(test))
                promtool("test", "rules", scratch / "test.yaml")

    def case(self, step, alert, series, minutes, expected):
        return {
            "interval": f"{step}m",
            "input_series": [{"series": name, "values": values} for name, values in series],
            "alert_rule_test": [{"eval_time": f"{minutes}m", "alertname": alert, "exp_alerts": expected}],
        }

    def test_every_alert_has_both_cases(self):
        names = {rule["alert"] for rule in rules()}
        self.assertEqual(names, set(alert_cases.FIRES))
        self.assertEqual(names, set(alert_cases.QUIET))

    def test_every_alert_fires(self):
        by_name = {rule["alert"]: rule for rule in rules()}
        cases = []
        for alert, (series, minutes, labels, summary) in alert_cases.FIRES.items():
            rule = by_name[alert]
            annotations = {"summary": summary, "runbook_url": rule["annotations"]["runbook_url"]}
            expected = [{"exp_labels": {**labels, **rule["labels"]}, "exp_annotations": annotations}]
            cases.append((alert, series, minutes, expected))
        self.promtool_test(cases)

    def test_every_alert_stays_quiet(self):
        self.promtool_test([(alert, series, minutes, []) for alert, (_, series, minutes) in alert_cases.QUIET.items()])

    def test_the_chart_ships_the_file_and_what_was_asked_for(self):
        file = yaml.safe_load(RULES[1].read_text())["groups"]
        self.assertEqual(RULES[1].name, "hookward-rules.yaml")
        self.assertEqual(rendered_groups(), file)
        with_base = rendered_groups(runbookBaseUrl="https://git.example.com/", disabled=["HookwardDown"], noWebhooks=True)
        made = {rule["alert"]: rule for group in with_base for rule in group["rules"]}
        self.assertNotIn("HookwardDown", made)
        self.assertIn("HookwardNoWebhooksReceived", made)
        url = made["HookwardPanic"]["annotations"]["runbook_url"]
        self.assertEqual(url, "https://git.example.com/docs/operations.md#hookwardpanic")

    def test_every_alert_has_a_severity_a_summary_and_a_section_of_the_operators_page(self):
        headings = set(re.findall(r"(?m)^### (\w+)$", (kit.ROOT / "docs/operations.md").read_text()))
        for rule in rules():
            alert = rule["alert"]
            with self.subTest(alert=alert):
                self.assertIn(rule["labels"]["severity"], ("critical", "warning"))
                self.assertTrue(rule["annotations"]["summary"])
                self.assertEqual(rule["annotations"]["runbook_url"], f"docs/operations.md#{alert.lower()}")
                self.assertIn(alert, headings)


class Dashboard(unittest.TestCase):
    def test_it_is_what_grafana_loads(self):
        dashboard = json.loads(DASHBOARD.read_text())
        self.assertEqual((dashboard["uid"], dashboard["title"]), ("hookward", "hookward"))
        ids = [panel["id"] for panel in dashboard["panels"]]
        self.assertEqual(len(ids), len(set(ids)))
        cells = set()
        for panel in dashboard["panels"]:
            grid = panel["gridPos"]
            self.assertLessEqual(grid["x"] + grid["w"], 24)
            mine = {(x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])}
            self.assertFalse(cells & mine, f"{panel['title']} covers another panel")
            cells |= mine

    def test_every_expression_parses(self):
        with tempfile.TemporaryDirectory() as scratch:
            path = pathlib.Path(scratch) / "rules.yaml"
            made = [{"record": f"panel:{n}", "expr": expression} for n, (_, expression) in enumerate(dashboard_expressions())]
            self.assertGreater(len(made), 40)
            path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": made}]}))
            promtool("check", "rules", path)

    def test_the_chart_ships_the_file(self):
        made = kit.one(kit.render(kit.merged(kit.MINIMAL, {"dashboard": {"enabled": True}})), "ConfigMap", "-dashboard")
        self.assertEqual(json.loads(made["data"]["hookward.json"]), json.loads(DASHBOARD.read_text()))
        self.assertEqual(made["metadata"]["labels"]["grafana_dashboard"], "1")


class Metrics(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with Running(tls=True) as running:
            cls.text = running.metrics()
        cls.names = {line.split("{")[0].split(" ")[0] for line in cls.text.splitlines() if not line.startswith("#")}

    def test_promtool_has_nothing_to_say_about_them(self):
        promtool("check", "metrics", input=self.text)

    def test_promtool_would_say_it(self):
        done = promtool("check", "metrics", input="# TYPE x_total gauge\nx_total 1\n", check=False)
        self.assertNotEqual(done.returncode, 0)

    def test_alerts_and_dashboard_name_only_metrics_that_exist(self):
        expressions = [(rule["alert"], rule["expr"]) for rule in rules()] + list(dashboard_expressions())
        for name, expression in expressions:
            with self.subTest(name=name):
                used = metric_names(expression)
                self.assertTrue(used)
                self.assertEqual(used - self.names - NOT_OURS, set())

    def test_the_dashboard_leaves_no_metric_out(self):
        shown = set().union(*(metric_names(expression) for _, expression in dashboard_expressions()))
        families = {line.split(" ")[2] for line in self.text.splitlines() if line.startswith("# TYPE hookward_")}
        missing = {name for name in families if not any(word.startswith(name) for word in shown)}
        self.assertEqual(missing, set())

    def test_label_values_of_the_alerts_exist(self):
        for rule in rules():
            for metric, labels in re.findall(r"(hookward_\w+)\{([^}]*)\}", rule["expr"]):
                for label, operator, value in re.findall(r'(\w+)(=~|!=|=)"([^"]*)"', labels):
                    pattern = value if operator == "=~" else re.escape(value)
                    with self.subTest(alert=rule["alert"], metric=metric, label=label, value=value):
                        found = re.search(rf'(?m)^{metric}\{{[^}}]*{label}="({pattern})"', self.text)
                        self.assertTrue(found)


if __name__ == "__main__":
    unittest.main()
