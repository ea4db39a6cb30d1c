"""Every ci/*-values.yaml: helm takes it, Kubernetes would, and hookward starts with what comes out."""

import pathlib
import re
import tempfile
import unittest

import kubernetes_validate
import yaml

import kit
import pod_security

# Custom resources, whose schemas Kubernetes does not have; test_templates looks at them.
CUSTOM = {"ServiceMonitor", "PodMonitor", "PrometheusRule", "HTTPRoute"}


def every_render():
    for values in kit.ci_values():
        for kube in kit.KUBERNETES:
            yield values, kube, kit.CHART
    for kube in kit.KUBERNETES:
        yield kit.SHOP / "values.yaml", kube, kit.SHOP


class Charts(unittest.TestCase):
    def test_helm_lints_every_example_strictly(self):
        for version in kit.HELMS:
            kit.helm(version, "lint", "--strict", kit.LIBRARY)
            kit.helm(version, "lint", "--strict", kit.SHOP, "--kube-version", "1.36.0")
            for values in kit.ci_values():
                kit.helm(version, "lint", "--strict", kit.CHART, "--values", values, "--kube-version", "1.36.0")

    def test_both_helms_make_the_same_of_every_example(self):
        for values in kit.ci_values():
            with self.subTest(values=values.name):
                self.assertEqual(kit.render(values, helm_version="3"), kit.render(values, helm_version="4"))

    def test_a_packaged_chart_is_the_whole_chart(self):
        values = kit.CHART / "ci/gateway-all-values.yaml"
        for version in kit.HELMS:
            with self.subTest(helm=version), tempfile.TemporaryDirectory() as scratch:
                kit.helm(version, "package", kit.CHART, "--destination", scratch)
                (package,) = pathlib.Path(scratch).iterdir()
                self.assertEqual(kit.render(values, package, version), kit.render(values, kit.CHART, version))
                self.assertNotIn("ci/", kit.run("tar", "--list", "--file", package).stdout)

    def test_every_manifest_fits_the_schema_of_each_kubernetes(self):
        for values, kube, chart in every_render():
            for document in kit.render(values, chart, kube=kube):
                if document["kind"] in CUSTOM:
                    continue
                with self.subTest(values=values.name, kube=kube, kind=document["kind"]):
                    kubernetes_validate.validate(document, kube, strict=True)

    def test_the_schemas_refuse_what_is_wrong(self):
        document = kit.one(kit.render(kit.MINIMAL), "StatefulSet")
        for path in (("spec",), ("spec", "template", "spec"), ("spec", "template", "spec", "containers", 0)):
            broken = yaml.safe_load(yaml.safe_dump(document))
            place = broken
            for key in path:
                place = place[key]
            place["notAKey"] = True
            with self.subTest(path=path), self.assertRaises(kubernetes_validate.ValidationError):
                kubernetes_validate.validate(broken, "1.36", strict=True)

    def test_every_pod_is_restricted_and_has_no_token(self):
        for values, kube, chart in every_render():
            for document in kit.render(values, chart, kube=kube):
                spec = kit.pod_spec(document)
                if spec is None:
                    continue
                with self.subTest(values=values.name, kube=kube, name=document["metadata"]["name"]):
                    self.assertEqual(pod_security.violations(spec), [])
                    self.assertIs(spec["automountServiceAccountToken"], False)
                    for container in kit.containers(spec):
                        if container["name"] != "app":
                            self.assertIs(container["securityContext"]["readOnlyRootFilesystem"], True)
                            self.assertEqual(container["securityContext"]["runAsUser"], 65532)

    def test_hookward_takes_the_configuration_of_every_example(self):
        for values, _, chart in every_render():
            with self.subTest(values=values.name), tempfile.TemporaryDirectory() as scratch:
                text = kit.hookward_config(kit.render(values, chart))
                config = pathlib.Path(scratch) / "hookward.yaml"
                config.write_text(with_files(text, pathlib.Path(scratch)))
                kit.hookward("check", "--config", config, env=kit.environment(TELNYX_PUBLIC_KEY=kit.PUBLIC_KEY))

    def test_the_versions_are_that_of_the_program(self):
        version = re.search(r'^version = "(.*)"', (kit.ROOT / "Cargo.toml").read_text(), re.M)[1]
        for chart in (kit.CHART, kit.LIBRARY):
            self.assertEqual(yaml.safe_load((chart / "Chart.yaml").read_text())["appVersion"], version)
        self.assertEqual(kit.hookward_container(kit.render(kit.MINIMAL))["image"], f"hookward:{version}")


def with_files(text, scratch):
    """The configuration with the files that Secrets and ConfigMaps would bring."""
    for path in set(re.findall(r"/run/hookward/[^\s,}]+", text)):
        copy = scratch / path.lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        name = copy.name
        if name in ("tls.crt", "tls.key", "ca.crt"):
            certificate(copy.parent)
        else:
            copy.write_text({"app": kit.SECRET_KEY, "admin-token": "secret"}.get(name, kit.PUBLIC_KEY))
    return text.replace("/run/hookward/", f"{scratch}/run/hookward/")


def certificate(directory):
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=hooks.example.com"
    kit.run(*command.split(), "-keyout", directory / "tls.key", "-out", directory / "tls.crt")
    (directory / "ca.crt").write_text((directory / "tls.crt").read_text())


class PodSecurity(unittest.TestCase):
    """The check itself can fail: each of these it must find."""

    def test_it_finds_every_breach(self):
        breaches = [
            (lambda pod, c: pod.update(hostNetwork=True), "hostNetwork"),
            (lambda pod, c: pod.update(hostPID=True), "hostPID"),
            (lambda pod, c: pod["volumes"].append({"name": "x", "hostPath": {"path": "/"}}), "hostPath"),
            (lambda pod, c: pod["securityContext"].update(runAsUser=0), "runAsUser 0"),
            (lambda pod, c: pod["securityContext"].update(seccompProfile={"type": "Unconfined"}), "seccompProfile"),
            (lambda pod, c: pod["securityContext"].update(sysctls=[{"name": "kernel.msgmax"}]), "sysctl"),
            (lambda pod, c: c["securityContext"].update(privileged=True), "privileged"),
            (lambda pod, c: c["securityContext"].pop("allowPrivilegeEscalation"), "allowPrivilegeEscalation"),
            (lambda pod, c: c["securityContext"].update(runAsNonRoot=False), "runAsNonRoot"),
            (lambda pod, c: c["securityContext"].update(runAsUser=0), "runAsUser 0"),
            (lambda pod, c: c["securityContext"].pop("capabilities"), "ALL is not dropped"),
            (lambda pod, c: c["securityContext"]["capabilities"].update(add=["NET_ADMIN"]), "NET_ADMIN"),
            (lambda pod, c: c["securityContext"].update(procMount="Unmasked"), "procMount"),
            (lambda pod, c: c["securityContext"].update(seLinuxOptions={"type": "spc_t"}), "seLinuxOptions"),
            (lambda pod, c: c["ports"][0].update(hostPort=80), "hostPort"),
            (lambda pod, c: c["livenessProbe"]["httpGet"].update(host="example.com"), "livenessProbe"),
        ]
        for where in ("containers", "initContainers"):
            for breach, word in breaches:
                spec = kit.pod_spec(kit.one(kit.render(kit.CHART / "ci/sidecar-values.yaml"), "Deployment"))
                self.assertEqual(pod_security.violations(spec), [])
                container = spec["initContainers"][0]
                if where == "containers":
                    spec["containers"], spec["initContainers"] = spec["initContainers"], spec["containers"]
                breach(spec, container)
                with self.subTest(word=word, where=where):
                    self.assertIn(word, " ".join(pod_security.violations(spec)))


if __name__ == "__main__":
    unittest.main()
