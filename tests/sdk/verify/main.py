# Follows the page's function: a line of four fields in base64 (key, timestamp, signature, body), a verdict for each.
import sys

for line in sys.stdin:
    key, timestamp, signature, body = (base64.b64decode(field) for field in line.split(","))
    headers = {"telnyx-timestamp": timestamp.decode(), "telnyx-signature-ed25519": signature.decode()}
    try:
        print(str(verify(key.decode(), headers, body)).lower(), flush=True)
    except Exception:
        print("error", flush=True)
