"""docs/kubernetes.md: its example is what it says."""

import pathlib
import re
import subprocess
import sqlite3
import sys
import tempfile
import time
import unittest

import kubernetes_validate
import yaml

import kit
import pod_security
from running import Running

PAGE = (kit.ROOT / "docs/kubernetes.md").read_text()


def block(language, first_line):
    (found,) = re.findall(rf"```{language}\n# {re.escape(first_line)}\n(.*?)```", PAGE, re.S)
    return found


class Example(unittest.TestCase):
    def test_its_manifests_fit_the_schemas_and_are_restricted(self):
        documents = kit.manifests(block("yaml", "manifests"))
        self.assertEqual([d["kind"] for d in documents], ["StatefulSet", "Service", "NetworkPolicy"])
        for document in documents:
            for kube in kit.KUBERNETES:
                kubernetes_validate.validate(document, kube, strict=True)
        self.assertEqual(pod_security.violations(kit.pod_spec(documents[0])), [])

    def test_the_chart_takes_its_values_and_they_lead_to_the_app(self):
        documents = kit.render(yaml.safe_load(block("yaml", "values.yaml")))
        config = yaml.safe_load(kit.hookward_config(documents))
        service = kit.one(kit.manifests(block("yaml", "manifests")), "Service")
        self.assertEqual(config["upstream"]["url"], f"http://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}")
        admitted = kit.one(kit.manifests(block("yaml", "manifests")), "NetworkPolicy")["spec"]["ingress"][0]["from"][0]
        labels = kit.one(documents, "StatefulSet")["spec"]["template"]["metadata"]["labels"].items()
        self.assertLessEqual(admitted["podSelector"]["matchLabels"].items(), labels)

    def test_its_app_gets_each_event_once_though_it_was_down(self):
        with tempfile.TemporaryDirectory() as scratch:
            database = pathlib.Path(scratch) / "messages.db"
            app = pathlib.Path(scratch) / "app.py"
            text = block("python", "app.py")
            for named in ('"/data/messages.db"', '("", 3000)'):
                self.assertIn(named, text)
            app.write_text(text.replace("/data/messages.db", str(database)).replace('("", 3000)', '("127.0.0.1", 23000)'))
            config = {
                "upstream": {"url": "http://127.0.0.1:23000"},
                "client_ip": {"trusted_proxies": ["127.0.0.1"]},
            }
            with Running(config) as running:
                kit.hookward(
                    *("send", f"http://{running.listen}/webhooks/messaging", "--secret-key", kit.SECRET_KEY),
                    *("--count", "40", "--header", "X-Forwarded-For: 192.76.120.200"),
                )
                process = subprocess.Popen([sys.executable, app], stderr=subprocess.DEVNULL)
                self.addCleanup(process.wait)
                self.addCleanup(process.kill)
                self.assertEqual(self.count(database, 40), 40)

    def count(self, database, wanted, seconds=30):
        deadline, count = time.monotonic() + seconds, 0
        while count < wanted and time.monotonic() < deadline:
            time.sleep(0.2)
            if database.exists():
                with sqlite3.connect(database, timeout=10) as db:
                    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
                    count = db.execute("SELECT count(*) FROM message").fetchone()[0] if tables else 0
        return count


class Links(unittest.TestCase):
    def test_they_lead_somewhere(self):
        for page in ("docs/kubernetes.md", "helm/hookward/README.md", "helm/hookward-sidecar/README.md", "README.md"):
            text = (kit.ROOT / page).read_text()
            for target in re.findall(r"\]\(([^)#:]*)(?:#[^)]*)?\)", text):
                with self.subTest(page=page, target=target):
                    self.assertTrue(not target or ((kit.ROOT / page).parent / target).exists())


if __name__ == "__main__":
    unittest.main()
