"""The forms for those without helm: the Kustomize component and the admission policy."""

import functools
import json
import pathlib
import tempfile
import unittest

import kubernetes_validate
import yaml

import kit
import pod_security
from test_charts import with_files


@functools.lru_cache
def build():
    return kit.manifests(kit.run(kit.TOOLS / "kustomize/kustomize", "build", kit.ROOT / "deploy/kustomize/example").stdout)


class Component(unittest.TestCase):
    def test_the_example_fits_the_schemas_and_is_restricted(self):
        for document in build():
            for kube in kit.KUBERNETES:
                # The app's preStop sleep is of 1.30.
                if kube == "1.29" and document["kind"] == "Deployment":
                    continue
                kubernetes_validate.validate(document, kube, strict=True)
            if spec := kit.pod_spec(document):
                self.assertEqual(pod_security.violations(spec), [])

    def test_the_sidecar_is_the_one_of_the_charts(self):
        ours = kit.hookward_container(build())
        chart = kit.hookward_container(kit.render(kit.SHOP / "values.yaml", kit.SHOP))
        for key in ("args", "restartPolicy", "startupProbe", "readinessProbe", "lifecycle", "securityContext"):
            self.assertEqual(ours[key], chart[key], key)
        self.assertEqual(ours["image"], "registry.example.com/hookward:0.1.0")
        self.assertEqual(kit.pod_spec(kit.one(build(), "Deployment"))["terminationGracePeriodSeconds"], 40)

    def test_only_the_labelled_service_goes_to_hookward(self):
        webhooks = kit.one(build(), "Service", "shop-webhooks")["spec"]
        self.assertEqual((webhooks["ports"][0]["targetPort"], webhooks["publishNotReadyAddresses"]), (8080, True))
        self.assertEqual(len(webhooks["ports"]), 1)
        other = kit.one(build(), "Service", "shop")["spec"]
        self.assertEqual(other["ports"][0]["targetPort"], 3000)

    def test_hookward_takes_its_configuration(self):
        with tempfile.TemporaryDirectory() as scratch:
            config = pathlib.Path(scratch) / "hookward.yaml"
            config.write_text(with_files(kit.hookward_config(build()), pathlib.Path(scratch)))
            kit.hookward("check", "--config", config)


class AdmissionPolicy(unittest.TestCase):
    """Evaluated by the API server's own code (admission/main.go)."""

    POLICY = kit.ROOT / "deploy/admission/hookward-injection.yaml"
    APP = {"name": "app", "image": "registry.example.com/shop:1", "resources": {}}

    def admitted(self, **spec):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "shop"}, "spec": {"containers": [self.APP], **spec}}
        return json.loads(kit.run(kit.TOOLS / "admission/admission", self.POLICY, input=json.dumps(pod)).stdout)["spec"]

    def test_the_sidecar_is_the_one_of_the_component(self):
        spec = self.admitted()
        component = yaml.safe_load((kit.ROOT / "deploy/kustomize/component/sidecar.yaml").read_text())["spec"]["template"]["spec"]
        for key in ("initContainers", "volumes", "terminationGracePeriodSeconds"):
            self.assertEqual(spec[key], component[key], key)
        self.assertEqual(spec["containers"], [self.APP])

    def test_it_comes_first_and_keeps_what_the_pod_has(self):
        spec = self.admitted(
            initContainers=[{"name": "migrate", "image": "x", "resources": {}}],
            volumes=[{"name": "scratch", "emptyDir": {}}],
            terminationGracePeriodSeconds=90,
        )
        self.assertEqual([c["name"] for c in spec["initContainers"]], ["hookward", "migrate"])
        self.assertEqual([v["name"] for v in spec["volumes"]], ["scratch", "hookward-config", "hookward-secrets", "hookward-data"])
        self.assertEqual(spec["terminationGracePeriodSeconds"], 90)
        self.assertEqual(self.admitted(terminationGracePeriodSeconds=30)["terminationGracePeriodSeconds"], 40)

    def test_a_pod_that_has_it_is_left_alone(self):
        own = [{"name": "hookward", "image": "mine", "resources": {}}]
        self.assertEqual(self.admitted(initContainers=own), {"containers": [self.APP], "initContainers": own})

    def test_the_example_fits_the_schema(self):
        policy, binding = kit.manifests(self.POLICY.read_text())
        for document in (policy, binding):
            kubernetes_validate.validate(document, "1.36", strict=True)
        self.assertEqual(binding["spec"]["policyName"], policy["metadata"]["name"])


if __name__ == "__main__":
    unittest.main()
