"""An app with a parser that is not hookward's. One JSON line on stdout per request it understood."""

import base64
import http.server
import json
import re
import sys
import threading

lock = threading.Lock()


def say(line):
    with lock:
        print(json.dumps(line), flush=True)


class Cut(Exception):
    """The connection ended within a body."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self):
        # `self.path` has been tidied already.
        method, target, _ = self.requestline.split(" ")
        framed, whole, body = True, True, b""
        try:
            body = self.body()
        except Cut:
            whole = False
        except ValueError:
            framed = False
        say({
            "method": method,
            "target": target,
            "headers": self.headers.items(),
            "body": base64.b64encode(body).decode(),
            "framed": framed,
            "whole": whole,
        })
        told = json.dumps({"event_id": self.headers.get("hookward-event-id")}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(told)))
        try:
            self.end_headers()
            self.wfile.write(told)
        except ConnectionError:
            self.close_connection = True
        self.close_connection = self.close_connection or not (framed and whole)

    def body(self):
        lengths = self.headers.get_all("content-length", [])
        codings = self.headers.get_all("transfer-encoding", [])
        if codings == ["chunked"] and not lengths:
            return self.chunks()
        if codings or len(lengths) > 1:
            raise ValueError("two ends")
        return self.exactly(int(lengths[0])) if lengths else b""

    def chunks(self):
        body = b""
        while True:
            line = self.rfile.readline(1024)
            if not line.endswith(b"\n"):
                raise Cut
            if not re.fullmatch(rb"[0-9a-fA-F]+\r\n", line):
                raise ValueError("no size")
            body += self.exactly(int(line, 16))
            if self.exactly(2) != b"\r\n":
                raise ValueError("no end of a chunk")
            if int(line, 16) == 0:
                return body

    def exactly(self, length):
        read = self.rfile.read(length)
        if len(read) < length:
            raise Cut
        return read

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
