"""A site on Python's own WSGI server: prints its port, and answers with what it was asked for and the
header that says who verified it."""

import json
import socketserver
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server


class Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


def site(environ, start_response):
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    seen = {
        "path": (environ["SCRIPT_NAME"] + environ["PATH_INFO"]).encode("latin-1").decode(),
        "verified": environ.get("HTTP_HOOKWARD_VERIFIED"),
        "moved": environ.get("HTTP_X_FORWARDED_PREFIX") or environ.get("HTTP_SCRIPT_NAME"),
    }
    body = json.dumps(seen).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


server = make_server("127.0.0.1", 0, site, Server, Quiet)
print(server.server_port, flush=True)
server.serve_forever()
