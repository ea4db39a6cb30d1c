"""The image: what it holds, how small it is, and that it works with nothing but a volume."""

import gzip
import json
import pathlib
import re
import struct
import subprocess
import tempfile
import unittest

import kit
from engine import Engine

IMAGE = "hookward:0.1.0"
HARDENED = ["--read-only", "--user", "65532:65532", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
MEGABYTE = 1_000_000
# Answers every question for an address with 127.0.0.1; enough of a name server.
NAME_SERVER = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
    server.bind(("127.0.0.1", 53))
    print("ready", flush=True)
    while True:
        query, client = server.recvfrom(512)
        question = query[12:query.index(0, 12) + 5]
        is_a = question[-4:-2] == bytes([0, 1])
        header = query[:2] + bytes([0x81, 0x80, 0, 1, 0, is_a, 0, 0, 0, 0])
        answer = bytes([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]) if is_a else b""
        server.sendto(header + question + answer, client)
"""


def setUpModule():
    global docker
    docker = Engine()
    unittest.addModuleCleanup(docker.close)
    docker.build_images()


class Contents(unittest.TestCase):
    def test_hadolint_has_nothing_to_say(self):
        for path in (kit.ROOT / "Dockerfile", kit.ROOT / "tests/k8s/app/Dockerfile"):
            kit.run(kit.TOOLS / "venv/bin/hadolint", path)
        done = kit.run(kit.TOOLS / "venv/bin/hadolint", "-", input="FROM debian\nRUN cd /tmp\n", check=False)
        self.assertNotEqual(done.returncode, 0, "it would say it")

    def test_it_runs_as_a_numeric_user_and_says_what_it_is(self):
        config = json.loads(docker("image", "inspect", IMAGE).stdout)[0]["Config"]
        self.assertEqual(config["User"], "65532:65532")
        self.assertEqual(config["Entrypoint"], ["hookward"])
        self.assertEqual(config["Healthcheck"]["Test"], ["CMD", "hookward", "health"])
        version = re.search(r'^version = "(.*)"', (kit.ROOT / "Cargo.toml").read_text(), re.M)[1]
        self.assertEqual(config["Labels"]["org.opencontainers.image.version"], version)
        for label in ("title", "description", "licenses", "revision"):
            self.assertTrue(config["Labels"][f"org.opencontainers.image.{label}"])

    def test_it_holds_the_binary_the_cas_and_nothing_else(self):
        container = docker("create", IMAGE).stdout.strip()
        with tempfile.TemporaryDirectory() as scratch:
            archive = pathlib.Path(scratch) / "image.tar"
            docker("export", "--output", archive, container)
            listed = kit.run("tar", "--list", "--verbose", "--numeric-owner", "--file", archive).stdout.splitlines()
        docker("rm", container)
        names = {line.split()[5] for line in listed}
        # What Docker adds to every container.
        made = {".dockerenv", "dev/", "dev/console", "dev/pts/", "dev/shm/", "etc/hostname", "etc/hosts", "etc/mtab", "etc/resolv.conf", "proc/", "sys/"}
        self.assertEqual(
            names - made,
            {
                *("hookward.cdx.json", "usr/", "usr/local/", "usr/local/bin/", "usr/local/bin/hookward"),
                *("etc/", "etc/ssl/", "etc/ssl/certs/", "etc/ssl/certs/ca-certificates.crt"),
                *("var/", "var/lib/", "var/lib/hookward/"),
            },
        )
        owners = {line.split()[5]: line.split()[1] for line in listed}
        self.assertEqual(owners["var/lib/hookward/"], "65532/65532")
        self.assertEqual(owners["usr/local/bin/hookward"], "0/0", "what runs cannot be written by who runs it")

    def test_it_is_at_most_8_mb_compressed(self):
        with tempfile.TemporaryDirectory() as scratch:
            archive = pathlib.Path(scratch) / "image.tar"
            docker("save", "--output", archive, IMAGE)
            kit.run("tar", "--extract", "--file", archive, "--directory", scratch)
            layers = json.loads((pathlib.Path(scratch) / "manifest.json").read_text())[0]["Layers"]
            compressed = sum(len(gzip.compress((pathlib.Path(scratch) / layer).read_bytes(), 6)) for layer in layers)
        print(f"\nthe image is {compressed / MEGABYTE:.2f} MB compressed")
        self.assertLess(compressed, 8 * MEGABYTE)

    def test_the_binary_needs_no_library(self):
        elf = kit.HOOKWARD.read_bytes()
        (offset,) = struct.unpack_from("<Q", elf, 0x20)
        size, count = struct.unpack_from("<HH", elf, 0x36)
        kinds = [struct.unpack_from("<I", elf, offset + size * n)[0] for n in range(count)]
        self.assertNotIn(3, kinds, "PT_INTERP: a dynamic loader is asked for")

    def test_an_image_for_another_kind_of_machine_is_refused_and_not_mislabelled(self):
        other = {"amd64": "arm64", "arm64": "amd64"}[kit.ARCH]
        done = kit.run(kit.ROOT / "deploy/image/build", other, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"docker buildx --platform linux/{other}", done.stderr)
        built = docker("build", "--build-arg", "BINARY=prebuilt", "--build-arg", f"TARGETARCH={other}", kit.ROOT, check=False)
        self.assertNotEqual(built.returncode, 0)

    def test_the_sbom_names_what_was_compiled_in(self):
        bom = json.loads((kit.HOOKWARD.parent / "hookward.cdx.json").read_text())
        self.assertEqual((bom["bomFormat"], bom["specVersion"]), ("CycloneDX", "1.5"))
        self.assertEqual(bom["metadata"]["component"]["name"], "hookward")
        lock = (kit.ROOT / "Cargo.lock").read_text()
        locked = set(re.findall(r'name = "(.*)"\nversion = "(.*)"', lock))
        found = {(c["name"], c["version"]) for c in bom["components"]}
        self.assertLessEqual(found, locked)
        names = {name for name, _ in found}
        self.assertLessEqual({"pingora-core", "ed25519-dalek", "rusqlite", "rustls", "ring"}, names)
        self.assertFalse({"proptest", "cmake"} & names, "what only tests and builds need is not in it")


class Running(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.addCleanup(self.scratch.cleanup)
        self.received = pathlib.Path(self.scratch.name) / "received"
        self.received.mkdir()
        self.received.chmod(0o777)
        self.addCleanup(lambda: docker("rm", "--force", "--volumes", *docker("ps", "--all", "--quiet").stdout.split(), check=False))
        docker("run", "--detach", "--name", "pause", "--network", "none", "app:test", "pause")
        docker("run", "--detach", "--name", "app", "--network", "container:pause", "--volume", f"{self.received}:/received", "app:test")

    def start(self, *args, upstream="http://127.0.0.1:3000"):
        docker(
            *("run", "--detach", "--name", "hookward", "--network", "container:pause", *HARDENED),
            *("--volume", "data:/var/lib/hookward", "--health-interval", "1s", *args, IMAGE),
            *("run", "--upstream", upstream, "--public-key", kit.PUBLIC_KEY, "--trusted-proxy", "127.0.0.1"),
        )

    def is_healthy(self):
        return docker("inspect", "--format", "{{.State.Health.Status}}", "hookward").stdout.strip() == "healthy"

    def send(self, *args, **more):
        return docker(
            *("run", "--rm", "--network", "container:pause", IMAGE, "send", "http://127.0.0.1:8080/webhooks"),
            *("--secret-key", kit.SECRET_KEY, "--header", "X-Forwarded-For: 192.76.120.200", *args),
            **more,
        )

    def events(self):
        file = self.received / "events"
        return {line.split()[0] for line in file.read_text().splitlines()} if file.exists() else set()

    def test_it_takes_webhooks_with_a_read_only_root_and_no_rights(self):
        self.start()
        docker.wait_until(self.is_healthy, "healthy by its own health check")
        done = self.send("--count", "200", "--rate", "50", "--scenario", "mixed")
        self.assertIn("bad-signature", done.stdout)
        self.send("--count", "50")
        docker.wait_until(lambda: len(self.events()) >= 50, "the app has what was sent")
        docker("exec", "hookward", "hookward", "drain", "--wait")
        docker("stop", "hookward")
        self.assertEqual(docker.state("hookward"), ("exited", 0))

    def test_without_a_volume_it_refuses_and_says_what_to_mount(self):
        done = docker("run", "--rm", "--network", "none", *HARDENED, IMAGE, "run", "--upstream", "http://127.0.0.1:3000", "--public-key", kit.PUBLIC_KEY, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("/var/lib/hookward", done.stderr)

    def test_a_name_in_etc_hosts_resolves(self):
        hosts = pathlib.Path(self.scratch.name) / "hosts"
        hosts.write_text("127.0.0.1 my-app.hooks.svc.cluster.local\n")
        self.start("--volume", f"{hosts}:/etc/hosts:ro", upstream="http://my-app.hooks.svc.cluster.local:3000")
        self.delivers()

    def test_a_name_resolves_by_dns_over_the_search_list(self):
        resolv = pathlib.Path(self.scratch.name) / "resolv.conf"
        resolv.write_text("nameserver 127.0.0.1\nsearch hooks.svc.cluster.local svc.cluster.local\noptions ndots:5\n")
        namespace = f"--net=/proc/{docker.pid('pause')}/ns/net"
        server = subprocess.Popen(["nsenter", namespace, "python3", "-c", NAME_SERVER], stdout=subprocess.PIPE, text=True)
        self.addCleanup(server.communicate)
        self.addCleanup(server.kill)
        self.assertEqual(server.stdout.readline(), "ready\n")
        self.start("--volume", f"{resolv}:/etc/resolv.conf:ro", upstream="http://my-app:3000")
        self.delivers()

    def delivers(self):
        docker.wait_until(self.is_healthy, "healthy")
        self.send("--count", "20")
        docker.wait_until(lambda: len(self.events()) == 20, "the app has what was sent")

    def test_what_was_answered_is_there_after_a_kill(self):
        docker("stop", "--time", "0", "app")
        self.start()
        docker.wait_until(self.is_healthy, "healthy")
        self.send("--count", "100")
        docker("kill", "--signal", "KILL", "hookward")
        docker("start", "hookward")
        docker("start", "app")
        docker.wait_until(lambda: len(self.events()) == 100, "the app has what was answered before the kill")


if __name__ == "__main__":
    unittest.main()
