"""What the tests share: the tools, helm's output as manifests, and hookward itself."""

import functools
import os
import pathlib
import subprocess
import tempfile

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = ROOT / "target/k8s-tools"
CHART = ROOT / "helm/hookward"
LIBRARY = ROOT / "helm/hookward-sidecar"
SHOP = ROOT / "tests/k8s/shop"
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
# The binary of the image.
HOOKWARD = pathlib.Path(os.environ.get("HOOKWARD", ROOT / "target/image" / ARCH / "hookward"))
PROMTOOL = TOOLS / "prometheus/usr/bin/promtool"
HELMS = ("3", "4")
KUBERNETES = ("1.29", "1.33", "1.36")
# Of a key pair made for these tests with `hookward keygen`.
PUBLIC_KEY = "kcLXqvzs1btmzW/VsJXbkALBCpGgf6S9tshnndQVExE="
SECRET_KEY = "kchXsaa8BAIl5pV3Y4AayWgP7RGyN6cOrPKXsko1RQs="
# The least that the chart takes.
MINIMAL = {"keys": [{"name": "current", "value": PUBLIC_KEY}], "config": {"upstream": {"url": "http://my-app:3000"}}}
SIDECAR = {"mode": "sidecar", "keys": MINIMAL["keys"], "app": {"image": "registry.example.com/shop:1"}}


def run(*command, check=True, **more):
    """A command's output; where it fails, both of its streams are the error."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **more)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def hookward(*args, **more):
    return run(HOOKWARD, *args, **more)


def helm(version, *args, **more):
    return run(TOOLS / f"helm{version}/helm", *args, **more)


def ci_values():
    return sorted((CHART / "ci").glob("*-values.yaml"))


def template(values, chart=CHART, helm_version="3", kube="1.36", check=True):
    """`helm template` with values from a file or a map."""
    with tempfile.TemporaryDirectory() as scratch:
        if isinstance(values, dict):
            path = pathlib.Path(scratch) / "values.yaml"
            path.write_text(yaml.safe_dump(values))
            values = path
        args = ["template", "release", chart, "--namespace", "hooks", "--values", values, "--kube-version", f"{kube}.0"]
        return helm(helm_version, *args, check=check)


def manifests(text):
    return [document for document in yaml.safe_load_all(text) if document]


@functools.lru_cache(maxsize=None)
def rendered_file(path, chart=CHART, helm_version="3", kube="1.36"):
    return template(path, chart, helm_version, kube).stdout


def render(values, chart=CHART, helm_version="3", kube="1.36"):
    if isinstance(values, pathlib.Path):
        return manifests(rendered_file(values, chart, helm_version, kube))
    return manifests(template(values, chart, helm_version, kube).stdout)


def merged(base, *more):
    """Maps laid over each other, as helm does with values."""
    result = dict(base)
    for overlay in more:
        for key, value in overlay.items():
            both = isinstance(value, dict) and isinstance(result.get(key), dict)
            result[key] = merged(result[key], value) if both else value
    return result


def one(documents, kind, suffix=""):
    """The only manifest of a kind whose name ends so; tests of helm aside."""
    found = [d for d in documents if d["kind"] == kind and d["metadata"]["name"].endswith(suffix) and not is_test(d)]
    assert len(found) == 1, f"{len(found)} of {kind} …{suffix}"
    return found[0]


def is_test(document):
    return "helm.sh/hook" in document["metadata"].get("annotations", {})


def pod_spec(document):
    """The Pod that a manifest makes, or None."""
    if document["kind"] == "Pod":
        return document["spec"]
    return document.get("spec", {}).get("template", {}).get("spec")


def containers(spec):
    return spec.get("initContainers", []) + spec["containers"]


def hookward_container(documents):
    """The container of hookward in the workload."""
    specs = [pod_spec(d) for d in documents if not is_test(d) and pod_spec(d)]
    found = [c for spec in specs for c in containers(spec) if c["name"] == "hookward"]
    assert len(found) == 1, found
    return found[0]


def hookward_config(documents):
    """hookward.yaml of the ConfigMap, as text."""
    found = [d["data"]["hookward.yaml"] for d in documents if d["kind"] == "ConfigMap" and "hookward.yaml" in d.get("data", {})]
    assert len(found) == 1, len(found)
    return found[0]


def environment(**more):
    return {**os.environ, **more}
