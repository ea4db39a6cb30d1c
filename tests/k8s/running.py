"""A hookward on this machine, with data below a scratch directory; ends with its block."""

import pathlib
import shutil
import subprocess
import tempfile
import urllib.request

import yaml

import kit


class Running:
    def __init__(self, config=None, tls=False):
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="hookward-"))
        listener = {"address": "127.0.0.1:0"}
        if tls:
            from test_charts import certificate

            certificate(self.scratch)
            listener["tls"] = {"cert": str(self.scratch / "tls.crt"), "key": str(self.scratch / "tls.key")}
        self.config = kit.merged(
            {
                "listen": [listener],
                "admin": {"address": "127.0.0.1:0"},
                "data_dir": str(self.scratch / "data"),
                "upstream": {"url": "http://127.0.0.1:1"},
                "routes": [{"keys": [{"value": kit.PUBLIC_KEY}]}],
                # Whatever file system the tests run on.
                "buffer": {"require": "process"},
            },
            config or {},
        )

    def __enter__(self):
        (self.scratch / "data").mkdir()
        path = self.scratch / "hookward.yaml"
        path.write_text(yaml.safe_dump(self.config))
        self.process = subprocess.Popen(
            [kit.HOOKWARD, "run", "--config", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        ready = self.process.stdout.readline()
        if not ready.startswith("ready "):
            self.process.kill()
            _, error = self.process.communicate()
            shutil.rmtree(self.scratch)
            raise AssertionError(f"hookward did not start: {error}")
        self.listen, self.admin = (word.partition("=")[2] for word in ready.split()[1:])
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()
        shutil.rmtree(self.scratch)

    def metrics(self):
        with urllib.request.urlopen(f"http://{self.admin}/metrics", timeout=10) as answer:
            return answer.read().decode()
