"""What the templates make of the values, one behaviour a test."""

import unittest

import yaml

import kit


def gateway(*values, **more):
    return kit.render(kit.merged(kit.MINIMAL, *values), **more)


def sidecar(*values, **more):
    return kit.render(kit.merged(kit.SIDECAR, *values), **more)


def config(documents):
    return yaml.safe_load(kit.hookward_config(documents))


def by_name(items):
    return {item["name"]: item for item in items}


class Workload(unittest.TestCase):
    def test_a_gateway_is_a_stateful_set_with_a_claim_for_one_pod_alone(self):
        spec = kit.one(gateway(), "StatefulSet")["spec"]
        claim = spec["volumeClaimTemplates"][0]
        self.assertEqual(claim["metadata"]["name"], "hookward-data")
        self.assertEqual(claim["spec"]["accessModes"], ["ReadWriteOncePod"])
        self.assertEqual(spec["podManagementPolicy"], "Parallel")
        self.assertEqual(spec["persistentVolumeClaimRetentionPolicy"], {"whenDeleted": "Retain", "whenScaled": "Retain"})
        self.assertEqual(kit.one(gateway(), "Service", "-pods")["metadata"]["name"], spec["serviceName"])

    def test_an_ephemeral_buffer_is_a_deployment_with_an_empty_dir(self):
        documents = gateway({"storage": {"type": "ephemeral"}})
        volumes = by_name(kit.pod_spec(kit.one(documents, "Deployment"))["volumes"])
        self.assertEqual(volumes["hookward-data"]["emptyDir"], {"sizeLimit": "2Gi"})
        self.assertEqual(config(documents)["buffer"]["require"], "pod")

    def test_two_pods_never_write_to_one_claim(self):
        documents = gateway({"storage": {"existingClaim": "mine"}})
        deployment = kit.one(documents, "Deployment")
        self.assertEqual(deployment["spec"]["strategy"], {"type": "Recreate"})
        volumes = by_name(kit.pod_spec(deployment)["volumes"])
        self.assertEqual(volumes["hookward-data"]["persistentVolumeClaim"], {"claimName": "mine"})

    def test_the_buffer_stays_below_its_volume(self):
        for size, cap in (("2Gi", "1638MiB"), ("512Mi", "409MiB"), ("1G", "762MiB"), ("1.5Gi", "1228MiB"), ("2Ti", "1677721MiB")):
            with self.subTest(size=size):
                self.assertEqual(config(gateway({"storage": {"size": size}}))["buffer"]["max_bytes"], cap)
        written = gateway({"config": {"buffer": {"max_bytes": "1GiB"}}})
        self.assertEqual(config(written)["buffer"]["max_bytes"], "1GiB")

    def test_an_empty_dir_counts_as_ephemeral_storage(self):
        resources = kit.hookward_container(gateway({"storage": {"type": "ephemeral", "size": "1Gi"}}))["resources"]
        self.assertEqual(resources["requests"]["ephemeral-storage"], "1024Mi")
        self.assertEqual(resources["limits"]["ephemeral-storage"], "1088Mi")
        self.assertNotIn("ephemeral-storage", kit.hookward_container(gateway())["resources"]["limits"])

    def test_there_is_no_cpu_limit(self):
        self.assertNotIn("cpu", kit.hookward_container(gateway())["resources"]["limits"])

    def test_the_grace_period_holds_delay_and_both_drains(self):
        for delay, drain, grace, wait in (("5s", "15s", 40, "20s"), ("1m 30s", "20s", 135, "110s"), ("0s", "500ms", 7, "1s")):
            documents = gateway({"config": {"shutdown": {"delay": delay, "drain": drain}}})
            with self.subTest(delay=delay, drain=drain):
                self.assertEqual(kit.pod_spec(kit.one(documents, "StatefulSet"))["terminationGracePeriodSeconds"], grace)
                hook = kit.hookward_container(documents)["lifecycle"]["preStop"]["exec"]["command"]
                self.assertEqual(hook, ["hookward", "drain", "--wait", "--timeout", wait])

    def test_probes_ask_hookward_alone(self):
        for documents in (gateway(), sidecar()):
            container = kit.hookward_container(documents)
            for probe, path in (("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
                self.assertEqual(container[probe]["httpGet"], {"path": path, "port": "hookward-admin"})

    def test_replicas_spread_over_nodes(self):
        spread = kit.pod_spec(kit.one(gateway(), "StatefulSet"))["topologySpreadConstraints"]
        self.assertEqual(spread[0]["whenUnsatisfiable"], "ScheduleAnyway")
        documents = gateway({"topologySpread": False})
        self.assertNotIn("topologySpreadConstraints", kit.pod_spec(kit.one(documents, "StatefulSet")))

    def test_labels_of_the_selector_never_change_with_the_version(self):
        for documents in (gateway(), sidecar({"storage": {"type": "ephemeral"}})):
            for document in documents:
                selector = document.get("spec", {}).get("selector", {})
                for labels in (selector, selector.get("matchLabels", {})):
                    self.assertNotIn("helm.sh/chart", labels)
                    self.assertNotIn("app.kubernetes.io/version", labels)


class Configuration(unittest.TestCase):
    def test_routes_without_keys_get_the_keys(self):
        routes = [{"name": "a", "path": "/a"}, {"name": "b", "path": "/b", "keys": [{"env": "B"}]}, {"name": "c", "path": "/c", "mode": "pass"}]
        made = by_name(config(gateway({"config": {"routes": routes}}))["routes"])
        self.assertEqual(made["a"]["keys"], kit.MINIMAL["keys"])
        self.assertEqual(made["b"]["keys"], [{"env": "B"}])
        self.assertNotIn("keys", made["c"])

    def test_keys_of_a_secret_are_files_that_hookward_watches(self):
        values = {"existingSecret": "telnyx", "adminTokenKey": "token", "keys": [{"name": "current", "secretKey": "live"}]}
        documents = gateway(values)
        made = config(documents)
        self.assertEqual(made["routes"][0]["keys"], [{"name": "current", "file": "/run/hookward/secrets/live"}])
        self.assertEqual(made["admin"]["token"], {"file": "/run/hookward/secrets/token"})
        volumes = by_name(kit.pod_spec(kit.one(documents, "StatefulSet"))["volumes"])
        self.assertEqual(volumes["hookward-secrets"]["secret"], {"secretName": "telnyx"})
        mounts = by_name(kit.hookward_container(documents)["volumeMounts"])
        self.assertEqual(mounts["hookward-secrets"]["mountPath"], "/run/hookward/secrets")
        for mount in mounts.values():
            self.assertNotIn("subPath", mount, "a change would not arrive")

    def test_no_secret_is_in_the_manifests(self):
        self.assertEqual([d for d in kit.render(kit.CHART / "ci/gateway-all-values.yaml") if d["kind"] == "Secret"], [])

    def test_the_upstream_of_a_sidecar_is_the_app_beside_it(self):
        self.assertEqual(config(sidecar({"app": {"port": 4000}}))["upstream"]["url"], "http://127.0.0.1:4000")
        written = sidecar({"config": {"upstream": {"url": "unix:/run/app.sock"}}})
        self.assertEqual(config(written)["upstream"]["url"], "unix:/run/app.sock")

    def test_pods_restart_only_for_what_a_reload_cannot_change(self):
        def checksum(*values):
            template = kit.one(gateway(*values), "StatefulSet")["spec"]["template"]
            return template["metadata"]["annotations"]["hookward/restart-checksum"]

        before = checksum()
        for reloaded in (
            {"keys": [{"name": "next", "value": kit.PUBLIC_KEY}]},
            {"config": {"upstream": {"url": "http://other:1"}}},
            {"config": {"client_ip": {"trusted_proxies": ["10.0.0.0/8"]}}},
            {"config": {"limits": {"connections": 9}}},
            {"config": {"log": {"client_ip": "truncated"}}},
        ):
            with self.subTest(values=reloaded):
                self.assertEqual(checksum(reloaded), before)
        for restarted in (
            {"listen": {"port": 8081}},
            {"admin": {"port": 9091}},
            {"storage": {"size": "3Gi"}},
            {"config": {"delivery": {"retry": {"base": "1s"}}}},
            {"config": {"shutdown": {"delay": "6s"}}},
            {"config": {"threads": 2}},
            {"config": {"log": {"level": "debug"}}},
            {"config": {"routes": [{"dedupe": {"window": "48h"}}]}},
        ):
            with self.subTest(values=restarted):
                self.assertNotEqual(checksum(restarted), before)


class Sidecar(unittest.TestCase):
    def test_it_is_native_where_kubernetes_can(self):
        for kube, values, native in (
            ("1.27", {}, False),
            ("1.28", {}, False),
            ("1.28", {"native": True}, True),
            ("1.29", {}, True),
            ("1.36", {}, True),
            ("1.36", {"native": False}, False),
        ):
            with self.subTest(kube=kube, values=values):
                spec = kit.pod_spec(kit.one(sidecar(values, kube=kube), "StatefulSet"))
                names = [[c["name"] for c in spec.get(kind, [])] for kind in ("initContainers", "containers")]
                self.assertEqual(names, [["hookward"], ["app"]] if native else [[], ["hookward", "app"]])
                policy = kit.hookward_container(sidecar(values, kube=kube)).get("restartPolicy")
                self.assertEqual(policy, "Always" if native else None)

    def test_a_providers_version_is_a_version(self):
        made = kit.helm("3", "template", "x", kit.CHART, "--values", kit.CHART / "ci/sidecar-values.yaml", "--kube-version", "v1.29.3-gke.1")
        spec = kit.pod_spec(kit.one(kit.manifests(made.stdout), "Deployment"))
        self.assertEqual([c["name"] for c in spec["initContainers"]], ["hookward"])

    def test_an_app_that_is_not_ready_does_not_take_the_intake_down(self):
        service = kit.one(sidecar(), "Service", "release-hookward")
        self.assertIs(service["spec"]["publishNotReadyAddresses"], True)
        self.assertNotIn("publishNotReadyAddresses", kit.one(gateway(), "Service", "release-hookward")["spec"])

    def test_the_app_stays_until_hookward_has_drained(self):
        for kube, lifecycle in (("1.29", None), ("1.30", {"preStop": {"sleep": {"seconds": 20}}})):
            spec = kit.pod_spec(kit.one(sidecar(kube=kube), "StatefulSet"))
            self.assertEqual(by_name(spec["containers"])["app"].get("lifecycle"), lifecycle)

    def test_nobody_reaches_the_app_past_hookward_unless_asked_for(self):
        policy = kit.one(sidecar(), "NetworkPolicy")["spec"]
        self.assertEqual(policy["policyTypes"], ["Ingress"])
        self.assertEqual([rule["ports"][0]["port"] for rule in policy["ingress"]], [8080, 9090])
        with self.assertRaises(AssertionError):
            kit.one(sidecar(), "Service", "-app")
        opened = sidecar({"app": {"service": {"enabled": True, "port": 81}}})
        self.assertEqual(kit.one(opened, "Service", "-app")["spec"]["ports"][0]["port"], 81)
        self.assertIn(3000, [rule["ports"][0]["port"] for rule in kit.one(opened, "NetworkPolicy")["spec"]["ingress"]])

    def test_library_and_wrapper_make_the_same_container(self):
        values = {"storage": {"type": "ephemeral", "size": "1Gi"}}
        self.assertEqual(
            kit.hookward_container(sidecar(values)),
            kit.hookward_container(kit.render(kit.SHOP / "values.yaml", kit.SHOP)),
        )

    def test_a_chart_of_ones_own_gets_a_service_past_readiness(self):
        service = kit.one(kit.render(kit.SHOP / "values.yaml", kit.SHOP), "Service", "-hookward")
        self.assertIs(service["spec"]["publishNotReadyAddresses"], True)
        self.assertEqual(service["spec"]["selector"]["app.kubernetes.io/name"], "shop")


class Access(unittest.TestCase):
    def test_services_and_policies_name_hookwards_ports_by_number(self):
        """Before Kubernetes 1.33 a Service finds no endpoint for the name of a native sidecar's port."""
        numbers = {"listen": {"port": 8088}, "admin": {"port": 9099}}
        documents = sidecar(numbers) + kit.render(kit.SHOP / "values.yaml", kit.SHOP)
        targets = [port["targetPort"] for d in documents if d["kind"] == "Service" for port in d["spec"]["ports"]]
        self.assertEqual(sorted(targets), [3000, 8080, 8088, 9099])
        policy = kit.one(documents, "NetworkPolicy")["spec"]["ingress"]
        self.assertEqual([rule["ports"][0]["port"] for rule in policy], [8088, 9099])

    def test_load_balancer_settings_arrive(self):
        service = kit.one(kit.render(kit.CHART / "ci/gateway-all-values.yaml"), "Service", "release-hookward")["spec"]
        self.assertEqual(service["externalTrafficPolicy"], "Local")
        self.assertEqual(service["loadBalancerSourceRanges"], ["192.76.120.192/27"])
        self.assertEqual(service["ports"][0], {"name": "webhooks", "port": 443, "targetPort": 8443, "protocol": "TCP", "appProtocol": "https", "nodePort": 30443})

    def test_ingress_and_route_lead_to_hookward(self):
        ingress = kit.one(kit.render(kit.CHART / "ci/gateway-ingress-values.yaml"), "Ingress")["spec"]
        backend = ingress["rules"][0]["http"]["paths"][0]["backend"]["service"]
        self.assertEqual(backend, {"name": "release-hookward", "port": {"name": "webhooks"}})
        self.assertEqual(ingress["tls"], [{"hosts": ["hooks.example.com"], "secretName": "hooks-tls"}])
        route = kit.one(kit.render(kit.CHART / "ci/gateway-httproute-values.yaml"), "HTTPRoute")
        self.assertEqual(route["apiVersion"], "gateway.networking.k8s.io/v1")
        self.assertEqual(route["spec"]["rules"][0]["backendRefs"], [{"name": "release-hookward", "port": 80}])

    def test_monitors_find_the_admin_port_under_the_alerts_job(self):
        documents = gateway({"serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}})
        monitor = kit.one(documents, "ServiceMonitor")
        self.assertEqual(monitor["metadata"]["labels"]["release"], "prometheus")
        endpoint = monitor["spec"]["endpoints"][0]
        self.assertEqual(endpoint["relabelings"], [{"targetLabel": "job", "replacement": "hookward"}])
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        found = [d for d in documents if d["kind"] == "Service" and wanted <= d["metadata"]["labels"].items()]
        self.assertEqual([s["metadata"]["name"] for s in found], ["release-hookward-pods"])
        self.assertEqual(found[0]["spec"]["ports"][0]["name"], endpoint["port"])
        pods = kit.one(gateway({"podMonitor": {"enabled": True}}), "PodMonitor")["spec"]["podMetricsEndpoints"][0]
        self.assertEqual((pods["port"], pods["relabelings"]), ("hookward-admin", endpoint["relabelings"]))

    def test_extra_objects_are_filled_in(self):
        documents = kit.render(kit.CHART / "ci/gateway-all-values.yaml")
        kit.one(documents, "ConfigMap", "release-hookward-extra")
        kit.one(documents, "ConfigMap", "release-text")

    def test_helm_test_asks_by_hookwards_own_binary(self):
        pod = next(d for d in gateway() if kit.is_test(d))
        self.assertEqual({c["image"] for c in pod["spec"]["containers"]}, {kit.hookward_container(gateway())["image"]})
        self.assertEqual(by_name(pod["spec"]["containers"])["is-ready"]["args"], ["health", "--admin", "http://release-hookward-pods:9090"])


class Notes(unittest.TestCase):
    """What helm prints after an installation."""

    def notes(self, *values, base=kit.MINIMAL, kube="1.36"):
        with_values = kit.merged(base, *values)
        import pathlib
        import tempfile

        with tempfile.TemporaryDirectory() as scratch:
            path = pathlib.Path(scratch) / "values.yaml"
            path.write_text(yaml.safe_dump(with_values))
            done = kit.helm("4", "install", "release", kit.CHART, "--dry-run=client", "--values", path)
            return done.stdout.partition("NOTES:")[2]

    def test_they_warn_of_what_loses_webhooks(self):
        trusted = {"config": {"client_ip": {"trusted_proxies": ["10.0.0.0/8"]}}}
        route = {"name": "hooks", "path": "/hooks"}
        for values, warning in [
            ({"storage": {"type": "ephemeral"}}, "lost with\ntheir Pod"),
            ({}, "trusted_proxies is empty"),
            ({"service": {"type": "LoadBalancer"}}, "externalTrafficPolicy Local"),
            ({"config": {"client_ip": {"trusted_proxies": ["0.0.0.0/0"]}}}, "protects nothing"),
            ({"config": {"routes": [{**route, "ip_allowlist": {"mode": False}}]}}, "does not enforce its ip_allowlist (off)"),
            ({"config": {"routes": [{**route, "ip_allowlist": {"mode": "report"}}]}}, "does not enforce its ip_allowlist (report)"),
            ({"config": {"routes": [{**route, "signature": "report"}]}}, "lets through what is not verified"),
            ({"replicas": 2}, "remembers duplicates by itself"),
            ({}, "Nothing reads the metrics"),
        ]:
            with self.subTest(warning=warning):
                self.assertIn(warning, self.notes(values))
        quiet = self.notes(trusted, {"serviceMonitor": {"enabled": True}})
        self.assertIn("helm test release", quiet)
        self.assertNotIn("WARNING", quiet)


if __name__ == "__main__":
    unittest.main()
