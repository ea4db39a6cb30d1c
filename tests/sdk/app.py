"""An app that believes only what its SDK verifies: 200, or 401.

    app.py telnyx PUBLIC_KEY | standard-webhooks whsec_…|whpk_…

Prints its port, then a line of JSON for each request, with the time before and after it was judged. A
path that ends in /busy is answered 503 on the first attempt, after it has been verified. A form is only
verified, since `unwrap` wants JSON; at a path that ends in /unwrap it is unwrapped nevertheless.
"""

import base64
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def telnyx(public_key):
    from telnyx import Telnyx  # takes seconds, so only where it is needed

    client = Telnyx(api_key="unused", public_key=public_key)

    def verify(body, headers, unwraps):
        if unwraps:
            client.webhooks.unwrap(body.decode(), headers=headers)
        else:
            # Only here: the import replaces `unwrap` by another one.
            from telnyx.lib.webhooks_ed25519 import verify_ed25519

            verify_ed25519(client, body, headers)

    return verify


def asymmetric(public_key):
    """v1a, which the library does not know, by the text of the standard."""
    from nacl.signing import VerifyKey

    key = VerifyKey(base64.b64decode(public_key.removeprefix("whpk_")))

    def verify(body, headers, _):
        timestamp = headers["webhook-timestamp"]
        if abs(time.time() - int(timestamp)) > 300:
            raise ValueError("too old or too new")
        version, signature = headers["webhook-signature"].split(",")
        if version != "v1a":
            raise ValueError("another version")
        key.verify(f"{headers['webhook-id']}.{timestamp}.".encode() + body, base64.b64decode(signature))

    return verify


def verifier(scheme, key):
    if scheme == "telnyx":
        return telnyx(key)
    if key.startswith("whpk_"):
        return asymmetric(key)
    from standardwebhooks import Webhook

    webhook = Webhook(key)
    return lambda body, headers, _: webhook.verify(body, headers)


VERIFY = verifier(*sys.argv[1:])


class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        is_form = headers["content-type"].startswith("application/x-www-form-urlencoded")
        unwraps = not is_form or self.path.endswith("/unwrap")
        before = time.time()
        try:
            VERIFY(body, headers, unwraps)
            refused = None
        except Exception as error:
            refused = f"{type(error).__name__}: {error}"
        attempt = headers.get("hookward-attempt")
        seen = {"path": self.path, "attempt": attempt, "refused": refused, "judged": [before, time.time()]}
        print(json.dumps(seen), flush=True)
        busy = self.path.endswith("/busy") and attempt == "1"
        self.send_response(401 if refused else 503 if busy else 200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), App)
print(server.server_address[1], flush=True)
server.serve_forever()
