"""An app with a parser that is not hookward's. One JSON line on stdout per request it understood."""

import base64
import http.server
import json
import sys
import threading

lock = threading.Lock()


def say(line):
    with lock:
        print(json.dumps(line), flush=True)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self):
        # `self.path` has been tidied already.
        method, target, _ = self.requestline.split(" ")
        lengths = self.headers.get_all("content-length", [])
        framed = len(lengths) == 1 and "transfer-encoding" not in self.headers
        body = self.rfile.read(int(lengths[0])) if framed else b""
        say({
            "method": method,
            "target": target,
            "headers": self.headers.items(),
            "body": base64.b64encode(body).decode(),
            "framed": framed,
        })
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.close_connection = self.close_connection or not framed

    def __getattr__(self, name):
        # Whatever the method, it is a request that got here.
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def log_message(self, *_):
        pass

    def send_error(self, code, message=None, explain=None):
        say({"unreadable": f"{code} {message}"})
        self.close_connection = True


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128


server = Server(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
sys.exit(0)
