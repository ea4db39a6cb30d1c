"""Runs a Pod from its rendered manifest, with Docker containers in place of a kubelet.

It does what Kubernetes' documentation says a kubelet does: native sidecars before the app, each once its
startup probe has succeeded; one network for all; volumes; security contexts; at the end all preStop
hooks at once, SIGTERM to the app, and to the sidecars once the app has ended. It is no kubelet: what
the scheduler, the endpoints and the volumes of a real cluster do is not shown by it.
"""

import concurrent.futures
import os
import pathlib
import re
import shutil
import signal
import tempfile
import time

import kit

PAUSE = "pause"


class Pod:
    def __init__(self, engine, documents, workload):
        self.engine = engine
        self.spec = workload["spec"]["template"]["spec"]
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="hookward-pod-"))
        self.scratch.chmod(0o755)
        self.config_maps = {d["metadata"]["name"]: d["data"] for d in documents if d["kind"] == "ConfigMap"}
        self.volumes = {volume["name"]: self.volume(volume) for volume in self.spec["volumes"]}
        self.named = {container["name"]: container for container in kit.containers(self.spec)}

    def volume(self, volume):
        """The directory behind a volume, at a path as a kubelet's."""
        kind = next(key for key in volume if key != "name")
        plugin = {"emptyDir": "kubernetes.io~empty-dir", "configMap": "kubernetes.io~configmap"}[kind]
        path = self.scratch / "volumes" / plugin / volume["name"]
        path.mkdir(parents=True)
        if kind == "configMap":
            for name, text in self.config_maps[volume["configMap"]["name"]].items():
                (path / name).write_text(text)
        else:
            path.chmod(0o777)
            if group := self.spec.get("securityContext", {}).get("fsGroup"):
                os.chown(path, -1, group)
        return path

    def __enter__(self):
        try:
            self.engine("run", "--detach", "--name", PAUSE, "--network", "none", "app:test", "pause")
            for container in self.spec.get("initContainers", []):
                assert container["restartPolicy"] == "Always", "only native sidecars"
                self.start(container)
                self.wait_for(container, "startupProbe")
            for container in self.spec["containers"]:
                self.start(container)
            return self
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_):
        for name in (*self.named, PAUSE):
            self.engine("rm", "--force", name, check=False)
        shutil.rmtree(self.scratch, ignore_errors=True)

    def start(self, container):
        context = {**self.spec.get("securityContext", {}), **container.get("securityContext", {})}
        args = ["--name", container["name"], "--network", f"container:{PAUSE}"]
        if "runAsUser" in context:
            args += ["--user", f"{context['runAsUser']}:{context.get('runAsGroup', 0)}"]
        if "fsGroup" in context:
            args += ["--group-add", str(context["fsGroup"])]
        if context.get("readOnlyRootFilesystem"):
            args += ["--read-only"]
        if context.get("allowPrivilegeEscalation") is False:
            args += ["--security-opt", "no-new-privileges"]
        for capability in context.get("capabilities", {}).get("drop", []):
            args += ["--cap-drop", capability]
        if memory := container.get("resources", {}).get("limits", {}).get("memory"):
            args += ["--memory", memory.removesuffix("i").lower()]
        for variable in container.get("env", []):
            args += ["--env", f"{variable['name']}={variable['value']}"]
        for mount in container.get("volumeMounts", []):
            mode = "ro" if mount.get("readOnly") else "rw"
            args += ["--volume", f"{self.volumes[mount['name']]}:{mount['mountPath']}:{mode}"]
        command = [*container.get("command", []), *container.get("args", [])]
        if "command" in container:
            args += ["--entrypoint", command.pop(0)]
        self.engine("run", "--detach", *args, container["image"], *command)

    def probe(self, container, kind):
        """Whether a probe succeeds now; asked from within the Pod's network, as a kubelet reaches it."""
        probe = container[kind]["httpGet"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        url = f"http://127.0.0.1:{ports.get(probe['port'], probe['port'])}{probe['path']}"
        ask = f"import urllib.request; urllib.request.urlopen({url!r}, timeout=5)"
        return self.engine.in_network_of(PAUSE, "python3", "-c", ask, check=False).returncode == 0

    def wait_for(self, container, kind):
        probe = container[kind]
        seconds = probe.get("periodSeconds", 10) * probe.get("failureThreshold", 3)
        self.engine.wait_until(lambda: self.probe(container, kind), f"{container['name']}: {kind}", seconds)

    def kill(self, name):
        """As a crash does."""
        self.engine("kill", "--signal", "KILL", name)

    def restart(self, name):
        """What a kubelet does after a crash: a new container on the same volumes."""
        self.engine("rm", "--force", name)
        self.start(self.named[name])

    def exec(self, name, *command, **more):
        return self.engine("exec", name, *command, **more)

    def helper(self, *args, image="hookward:0.1.0", **more):
        """A container beside, in the same network."""
        return self.engine("run", "--rm", "--network", f"container:{PAUSE}", image, *args, **more)

    def terminate(self):
        """Ends the Pod within its grace period; each container's exit code, and how long it took."""
        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor() as hooks:
            for done in [hooks.submit(self.pre_stop, container) for container in self.named.values()]:
                done.result()
        for container in (*self.spec["containers"], *reversed(self.spec.get("initContainers", []))):
            self.engine("kill", "--signal", str(int(signal.SIGTERM)), container["name"])
            self.engine("wait", container["name"], timeout=self.spec["terminationGracePeriodSeconds"])
        return {name: self.engine.state(name)[1] for name in self.named}, time.monotonic() - began

    def pre_stop(self, container):
        hook = container.get("lifecycle", {}).get("preStop", {})
        if "exec" in hook:
            self.exec(container["name"], *hook["exec"]["command"])
        elif "sleep" in hook:
            time.sleep(hook["sleep"]["seconds"])


def log_lines(text, word):
    return [line for line in text.splitlines() if re.search(word, line)]
