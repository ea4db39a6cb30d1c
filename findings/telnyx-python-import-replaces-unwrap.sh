#!/usr/bin/env bash
# telnyx 4.189.0 (PyPI; pynacl 1.6.2): importing anything of `telnyx.lib`, the helper for speech to text for instance,
# replaces `client.webhooks.unwrap`, and the other `unwrap` judges genuine requests otherwise.
#
# The one of the package refuses a key whose text ends in a newline (as a file's does), a body given as bytes, and a request
# in its 300th second, since it compares whole seconds with a clock that has fractions. The one that replaces it takes all
# three. So an import elsewhere in an app decides which of its webhooks are 401.
#
# What hookward's users meet: an app that refuses, or takes, what the same SDK does otherwise in another app. `hookward
# pubkey` writes no newline into a file, and `docs/apps.md` says which helper does what.
#
# Output seen:
#   as installed:
#     200.5 s after signing: takes it
#     a key that ends in a newline: refuses it: Invalid webhook key or signature encoding
#     300.5 s after signing: refuses it: Webhook timestamp is too old or too new
#     the body as bytes: refuses it: Signature verification failed
#   after `from telnyx.lib import SpeechToTextWS`:
#     200.5 s after signing: takes it
#     a key that ends in a newline: takes it
#     300.5 s after signing: takes it
#     the body as bytes: takes it
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check --no-input telnyx==4.189.0 pynacl==1.6.2
venv/bin/python - <<'PY'
import base64
import sys
import time

from nacl.signing import SigningKey
from telnyx import Telnyx

SIGNED_S = 1_700_000_000
BODY = b'{"data":{"event_type":"message.received"}}'
signing_key = SigningKey(bytes([7] * 32))
key = base64.b64encode(bytes(signing_key.verify_key)).decode()
signature = signing_key.sign(f"{SIGNED_S}|".encode() + BODY).signature
headers = {
    "telnyx-timestamp": str(SIGNED_S),
    "telnyx-signature-ed25519": base64.b64encode(signature).decode(),
}


def unwrap(key_text, body):
    try:
        Telnyx(api_key="unused", public_key=key_text).webhooks.unwrap(body, headers=headers)
        return "takes it"
    except Exception as error:
        return f"refuses it: {str(error).split(':')[0]}"


def judged():
    verdicts = []
    for what, key_text, body, age_s in [
        ("200.5 s after signing", key, BODY.decode(), 200.5),
        ("a key that ends in a newline", key + "\n", BODY.decode(), 0.5),
        ("300.5 s after signing", key, BODY.decode(), 300.5),
        ("the body as bytes", key, BODY, 0.5),
    ]:
        time.time = lambda: SIGNED_S + age_s
        verdict = unwrap(key_text, body)
        print(f"  {what}: {verdict}")
        verdicts.append(verdict == "takes it")
    return verdicts


print("as installed:")
before = judged()
from telnyx.lib import SpeechToTextWS

print("after `from telnyx.lib import SpeechToTextWS`:")
after = judged()
if (before, after) != ([True, False, False, False], [True] * 4):
    sys.exit("this has changed")
PY
