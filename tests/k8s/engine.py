"""A Docker engine of the tests' own: started here, with images and containers of its own, ended here."""

import atexit
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

import kit

# Debian's client fits Debian's engine, and builds with BuildKit without a plugin.
CLIENT = next((path for path in ("/usr/bin/docker", shutil.which("docker") or "") if os.path.exists(path)), "docker")


class Engine:
    def __init__(self):
        if os.geteuid() != 0:
            raise AssertionError("dockerd must be started as root: sudo make test-k8s")
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="hookward-docker-"))
        self.host = f"unix://{self.scratch}/docker.sock"
        log = (self.scratch / "log").open("w")
        # No bridge and no firewall rules: containers get a loopback, or the network of another.
        self.process = subprocess.Popen(
            [
                # However this process ends, the engine ends too, and its containers with it.
                *("setpriv", "--pdeathsig", "TERM", "dockerd"),
                "--iptables=false",
                "--ip6tables=false",
                "--bridge=none",
                f"--host={self.host}",
                f"--data-root={self.scratch}/data",
                f"--exec-root={self.scratch}/exec",
                f"--pidfile={self.scratch}/pid",
            ],
            stdout=log,
            stderr=log,
        )
        log.close()
        atexit.register(self.close)
        try:
            self.wait_until(lambda: self("version", check=False).returncode == 0, "dockerd does not answer", 60)
        except BaseException:
            self.close()
            raise

    def __call__(self, *args, **more):
        more.setdefault("env", kit.environment(DOCKER_BUILDKIT="1"))
        return kit.run(CLIENT, "--host", self.host, *args, **more)

    def wait_until(self, condition, what, seconds=30):
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise AssertionError(f"not within {seconds} s: {what}\n{self.logs()}")
            time.sleep(0.2)

    def logs(self):
        """What the containers said last; what the engine said if there are none."""
        names = self("ps", "--all", "--format", "{{.Names}}", check=False).stdout.split()
        said = [self("logs", "--tail", "20", name, check=False) for name in names]
        lines = [f"--- {name}\n{log.stdout}{log.stderr}" for name, log in zip(names, said)]
        return "\n".join(lines) or (self.scratch / "log").read_text()[-2000:]

    def build_images(self):
        """hookward from what deploy/image/build has made, and the app."""
        self("build", "--build-arg", "BINARY=prebuilt", "--tag", "hookward:0.1.0", kit.ROOT)
        self("build", "--tag", "app:test", "--file", kit.ROOT / "tests/k8s/app/Dockerfile", kit.TOOLS / "app")

    def pid(self, container):
        return self("inspect", "--format", "{{.State.Pid}}", container).stdout.strip()

    def state(self, container):
        state, code = self("inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", container).stdout.split()
        return state, int(code)

    def in_network_of(self, container, *command, **more):
        """Runs a command of this machine in the network of a container."""
        return kit.run("nsenter", f"--net=/proc/{self.pid(container)}/ns/net", *command, **more)

    def close(self):
        atexit.unregister(self.close)
        listed = self("ps", "--all", "--quiet", check=False).stdout.split()
        if listed:
            self("rm", "--force", "--volumes", *listed, check=False)
        self.process.terminate()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.scratch, ignore_errors=True)
