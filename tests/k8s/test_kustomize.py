"""The forms for those without helm: the Kustomize component and the admission policy."""

import functools
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
    def test_the_example_fits_the_schema_and_names_what_the_component_does(self):
        text = (kit.ROOT / "deploy/admission/hookward-injection.yaml").read_text()
        policy, binding = kit.manifests(text)
        for document in (policy, binding):
            kubernetes_validate.validate(document, "1.36", strict=True)
        self.assertEqual(binding["spec"]["policyName"], policy["metadata"]["name"])
        expression = policy["spec"]["mutations"][0]["applyConfiguration"]["expression"]
        self.assertEqual(expression.count("{"), expression.count("}"))
        sidecar = yaml.safe_load((kit.ROOT / "deploy/kustomize/component/sidecar.yaml").read_text())["spec"]["template"]["spec"]
        container = sidecar["initContainers"][0]
        for words in (container["args"], container["lifecycle"]["preStop"]["exec"]["command"]):
            self.assertIn(", ".join(f'"{word}"' for word in words), expression)
        for mount in container["volumeMounts"]:
            self.assertIn(f'name: "{mount["name"]}", mountPath: "{mount["mountPath"]}"', expression)
        for volume in sidecar["volumes"]:
            self.assertIn(f'Object.spec.volumes{{name: "{volume["name"]}"', expression)


if __name__ == "__main__":
    unittest.main()
