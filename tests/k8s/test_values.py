"""What the charts refuse, and that their documents tell all there is."""

import sys
import unittest

import yaml

import kit


class Schema(unittest.TestCase):
    """values.schema.json: whatever is misspelt or misplaced is an error, not silently without effect."""

    def refused(self, values, *words, base=kit.MINIMAL):
        for version in kit.HELMS:
            with self.subTest(helm=version, values=values):
                done = kit.template(kit.merged(base, values), helm_version=version, check=False)
                self.assertNotEqual(done.returncode, 0)
                for word in words:
                    self.assertIn(word, done.stderr)

    def test_an_unknown_value_is_refused_at_every_level(self):
        def sections(values, path=()):
            yield path
            for key, value in values.items():
                free = {"config", "resources", "securityContext", "podSecurityContext", "labels", "annotations"}
                if isinstance(value, dict) and value and key not in free:
                    yield from sections(value, (*path, key))

        defaults = yaml.safe_load((kit.CHART / "values.yaml").read_text())
        paths = list(sections(defaults))
        self.assertGreater(len(paths), 15)
        for path in paths:
            values = {"misspelt": 1}
            for key in reversed(path):
                values = {key: values}
            done = kit.template(kit.merged(kit.MINIMAL, values), check=False)
            with self.subTest(path=path):
                self.assertIn("additional properties 'misspelt' not allowed", done.stderr)

    def test_an_unknown_key_of_hookwards_configuration_is_refused(self):
        self.refused({"config": {"upstrem": {}}}, "upstrem")
        self.refused({"config": {"upstream": {"timeuot": "5s"}}}, "timeuot")
        self.refused({"config": {"routes": [{"pth": "/x"}]}}, "pth")

    def test_what_the_chart_writes_itself_cannot_be_written_again(self):
        for key, value in (("listen", []), ("admin", {}), ("data_dir", "/data")):
            self.refused({"config": {key: value}}, key)

    def test_values_of_a_wrong_shape_are_refused(self):
        for values, word in [
            ({"mode": "daemon"}, "mode"),
            ({"storage": {"medium": "Memory"}}, "medium"),
            ({"storage": {"size": "2 gigabytes"}}, "size"),
            ({"storage": {"accessMode": "ReadWriteMany"}}, "accessMode"),
            ({"listen": {"port": 0}}, "port"),
            ({"listen": {"host": "localhost"}}, "host"),
            ({"replicas": -1}, "replicas"),
            ({"replicas": "two"}, "replicas"),
            ({"image": {"digest": "sha256:1234"}}, "digest"),
            ({"image": {"repository": ""}}, "repository"),
            ({"native": "maybe"}, "native"),
            ({"keys": [{"name": "current"}]}, "keys"),
            ({"keys": [{"name": "a", "value": "x", "secretKey": "y"}]}, "keys"),
            ({"keys": [{"value": "x"}]}, "name"),
            ({"keys": [{"name": str(n), "value": "x"} for n in range(9)]}, "keys"),
            ({"config": {"buffer": {"engine": "postgres"}}}, "engine"),
            ({"config": {"routes": [{"mode": "acknowledge"}]}}, "mode"),
            ({"service": {"type": "ExternalName"}}, "type"),
            ({"serviceMonitor": {"interval": "often"}}, "interval"),
        ]:
            self.refused(values, word)


class Guards(unittest.TestCase):
    """Combinations that would lose webhooks or never start fail with what to do about it."""

    def test_every_bad_combination_fails_and_says_what_to_write(self):
        minimal, sidecar = kit.MINIMAL, kit.SIDECAR
        for base, values, words in [
            (minimal, {"keys": []}, "Keys & Credentials > Public Key"),
            (minimal, {"keys": [], "config": {"routes": [{"path": "/a"}]}}, "keys: hookward does not start"),
            (minimal, {"keys": [{"name": "a", "secretKey": "b"}]}, "existingSecret names no Secret"),
            (minimal, {"adminTokenKey": "token"}, "existingSecret, which names no Secret"),
            (minimal, {"config": {"upstream": {"url": None}}}, "config.upstream.url: where is the app?"),
            (minimal, {"config": {"upstream": {"url": None}, "routes": [{"mode": "verify"}], "unmatched": "pass"}}, "where is the app?"),
            (minimal, {"storage": {"type": "shared"}}, "not in this version"),
            (minimal, {"storage": {"size": "64Mi"}}, "too small"),
            (minimal, {"config": {"buffer": {"max_bytes": "1.7GiB"}}}, "80 %"),
            (minimal, {"storage": {"type": "ephemeral", "size": "1Gi"}, "config": {"buffer": {"max_bytes": "1GiB"}}}, "80 %"),
            (minimal, {"storage": {"type": "ephemeral"}, "config": {"buffer": {"max_bytes": "auto"}}}, "the node's disk"),
            (minimal, {"storage": {"type": "ephemeral", "existingClaim": "x"}}, "storage.type claim only"),
            (minimal, {"storage": {"existingClaim": "x"}, "replicas": 2}, "one volume is for one Pod"),
            (minimal, {"listen": {"port": 9090}}, "must differ"),
            (minimal, {"listen": {"proxyProtocol": True}}, "trusted_proxies"),
            (minimal, {"listen": {"tls": {"verifyClients": True}}}, "secretName"),
            (minimal, {"app": {"image": "shop"}}, "mode sidecar only"),
            (minimal, {"app": {"service": {"enabled": True}}}, "mode sidecar only"),
            (minimal, {"ingress": {"enabled": True, "host": "a.example.com"}}, "trusted_proxies"),
            (minimal, {"httpRoute": {"enabled": True, "parentRefs": [{"name": "a"}]}}, "trusted_proxies"),
            (minimal, {"ingress": {"enabled": True}, "config": {"client_ip": {"trusted_proxies": ["10.0.0.0/8"]}}}, "ingress.host"),
            (minimal, {"httpRoute": {"enabled": True}, "config": {"client_ip": {"trusted_proxies": ["10.0.0.0/8"]}}}, "parentRefs"),
            (
                minimal,
                {
                    "ingress": {"enabled": True, "host": "a.example.com"},
                    "listen": {"proxyProtocol": True},
                    "config": {"client_ip": {"trusted_proxies": ["10.0.0.0/8"]}},
                },
                "sends no PROXY header",
            ),
            (minimal, {"service": {"externalTrafficPolicy": "Local"}}, "LoadBalancer or NodePort"),
            (minimal, {"service": {"loadBalancerSourceRanges": ["10.0.0.0/8"]}}, "service.type LoadBalancer"),
            (minimal, {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}, "counted twice"),
            (minimal, {"terminationGracePeriodSeconds": 39}, "write 40 or more"),
            (minimal, {"config": {"shutdown": {"drain": "1week"}}}, "not a duration that this chart reads"),
            (minimal, {"config": {"buffer": {"max_bytes": "1..5GiB"}}}, "is not a size"),
            (sidecar, {"app": {"image": ""}}, "beside an app; which?"),
            (sidecar, {"app": {"port": 8080}}, "hookward's own"),
            (sidecar, {"app": {"port": 9090}}, "hookward's own"),
        ]:
            with self.subTest(values=values):
                done = kit.template(kit.merged(base, values), check=False)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(words, done.stderr)

    def test_a_cluster_that_would_hang_on_a_native_sidecar_is_told_so(self):
        done = kit.template(kit.merged(kit.SIDECAR, {"native": True}), kube="1.27", check=False)
        self.assertIn("the Pod would hang", done.stderr)

    def test_just_inside_the_bounds_is_taken(self):
        for values in [
            {"config": {"buffer": {"max_bytes": "1.6GiB"}}},
            {"config": {"buffer": {"max_bytes": "auto"}}},
            {"terminationGracePeriodSeconds": 40},
            {"storage": {"size": "128Mi"}},
            {"keys": [], "extraEnv": [{"name": "TELNYX_PUBLIC_KEY", "value": kit.PUBLIC_KEY}]},
            {"config": {"upstream": {"url": None}, "routes": [{"upstream": {"url": "http://a:1"}}]}},
        ]:
            with self.subTest(values=values):
                kit.render(kit.merged(kit.MINIMAL, values))


class Documents(unittest.TestCase):
    def test_schemas_and_tables_are_what_the_charts_have(self):
        kit.run(sys.executable, kit.ROOT / "helm/generate", kit.HOOKWARD, "--check")

    def test_every_value_has_a_row_with_its_default(self):
        def leaves(values, shape, path=""):
            for key, value in values.items():
                inner = shape["properties"][key]
                if inner.get("properties") and path + key != "config":
                    yield from leaves(value, inner, f"{path}{key}.")
                else:
                    yield path + key

        for chart in (kit.CHART, kit.LIBRARY):
            defaults = yaml.safe_load((chart / "values.yaml").read_text())
            schema = yaml.safe_load((chart / "values.schema.json").read_text())
            readme = (chart / "README.md").read_text()
            paths = list(leaves(defaults, schema))
            self.assertGreater(len(paths), 15)
            for path in paths:
                self.assertIn(f"\n| `{path}` |", readme)


if __name__ == "__main__":
    unittest.main()
