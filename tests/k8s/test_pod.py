"""The Pod of mode sidecar, run from the manifest that helm renders, with webhooks through it."""

import json
import subprocess
import time
import unittest

import yaml

import kit
from engine import CLIENT, Engine
from pod import PAUSE, Pod

VALUES = {
    "mode": "sidecar",
    "keys": [{"name": "current", "value": kit.PUBLIC_KEY}],
    "storage": {"type": "ephemeral", "size": "256Mi"},
    "app": {"image": "app:test", "volumeMounts": [{"name": "received", "mountPath": "/received"}]},
    "extraVolumes": [{"name": "received", "emptyDir": {}}],
    "config": {
        # The sender stands in the same network and says whose address it comes from, as an ingress does.
        "client_ip": {"trusted_proxies": ["127.0.0.1"]},
        "shutdown": {"delay": "1s", "drain": "5s"},
        "delivery": {"retry": {"base": "100ms", "max": "1s"}},
    },
}


def setUpModule():
    global docker
    docker = Engine()
    unittest.addModuleCleanup(docker.close)
    docker.build_images()


class SidecarPod(unittest.TestCase):
    def setUp(self):
        documents = kit.render(VALUES)
        self.pod = Pod(docker, documents, kit.one(documents, "Deployment"))
        self.pod.__enter__()
        self.addCleanup(self.pod.__exit__)
        self.pod.wait_for(self.pod.named["hookward"], "readinessProbe")

    def send(self, count, rate):
        """Plays Telnyx, in the background; its summary when it is done."""
        command = [CLIENT, "--host", docker.host, "run", "--rm", "--network", f"container:{PAUSE}", "hookward:0.1.0"]
        command += ["send", "http://127.0.0.1:8080/webhooks", "--secret-key", kit.SECRET_KEY, "--json"]
        command += ["--count", count, "--rate", rate, "--header", "X-Forwarded-For: 192.76.120.200"]
        return subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def lines(self):
        file = self.pod.volumes["received"] / "events"
        return file.read_text().splitlines() if file.exists() else []

    def events(self):
        return {line.split()[0] for line in self.lines()}

    def sent(self, sender, count):
        out, error = sender.communicate(timeout=120)
        self.assertEqual(sender.returncode, 0, f"not every webhook was answered as it should be: {out}{error}")
        return json.loads(out)

    def all_arrive(self, count):
        deadline = time.monotonic() + 60
        while len(self.events()) < count and time.monotonic() < deadline:
            time.sleep(0.2)
        self.assertEqual(len(self.events()), count, docker.logs())

    def test_no_event_is_lost_while_the_app_is_killed_and_restarted_under_load(self):
        count, rate = 1500, 100
        sender = self.send(count, rate)
        kills = 0
        while sender.poll() is None:
            time.sleep(1.5)
            self.pod.kill("app")
            kills += sender.poll() is None
            time.sleep(1)
            # The intake does not depend on the app.
            self.assertTrue(self.pod.probe(self.pod.named["hookward"], "readinessProbe"))
            self.pod.restart("app")
        self.assertGreaterEqual(kills, 2, "the load was over too soon")
        self.sent(sender, count)
        self.all_arrive(count)
        attempts = [int(line.split()[1]) for line in self.lines()]
        self.assertGreater(max(attempts), 1, "a kill found no delivery under way: nothing was shown")

    def test_no_event_is_lost_when_hookward_itself_is_killed(self):
        count, rate = 600, 100
        # With the app down all of them are still in the buffer.
        self.pod.kill("app")
        sender = self.send(count, rate)
        time.sleep(2)
        self.pod.kill("hookward")
        self.pod.restart("hookward")
        self.sent(sender, count)
        self.pod.restart("app")
        self.all_arrive(count)

    def test_the_end_delivers_what_is_pending_and_takes_no_longer_than_it_may(self):
        self.pod.kill("app")
        count = 200
        self.sent(self.send(count, 0), count)
        self.pod.restart("app")
        codes, seconds = self.pod.terminate()
        self.assertEqual(codes, {"hookward": 0, "app": 0})
        self.assertEqual(len(self.events()), count)
        self.assertLess(seconds, self.pod.spec["terminationGracePeriodSeconds"])

    def test_what_helm_test_runs_succeeds_here_and_fails_elsewhere(self):
        test = next(document for document in kit.render(VALUES) if kit.is_test(document))
        args = test["spec"]["containers"][0]["args"]
        self.assertIn("http://release-hookward-pods:9090", args)
        here = [arg.replace("release-hookward-pods", "127.0.0.1") for arg in args]
        self.assertEqual(self.pod.helper(*here).stdout, "ready\n")
        elsewhere = [arg.replace("9090", "9999") for arg in here]
        self.assertEqual(self.pod.helper(*elsewhere, check=False).returncode, 1)

    def test_a_changed_config_map_is_taken_without_a_restart(self):
        config = self.pod.volumes["hookward-config"] / "hookward.yaml"
        changed = yaml.safe_load(config.read_text())
        changed["routes"][0]["path"] = "/hooks"
        config.write_text(yaml.safe_dump(changed))
        reloaded = 'hookward_config_reloads_total{result="success"} 1'
        ask = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:9090/metrics').read().decode())"
        docker.wait_until(lambda: reloaded in docker.in_network_of(PAUSE, "python3", "-c", ask).stdout, "a reload")
        done = self.pod.helper("send", "http://127.0.0.1:8080/hooks", "--secret-key", kit.SECRET_KEY, "--header", "X-Forwarded-For: 192.76.120.200")
        self.assertIn("accepted", done.stdout)


if __name__ == "__main__":
    unittest.main()
