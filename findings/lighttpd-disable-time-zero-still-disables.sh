#!/usr/bin/env bash
# lighttpd 1.4.69 (Debian 12, 1.4.69-1): `"disable-time" => 0` of mod_proxy does not keep a backend in service.
#
# After one refused connection the only backend is taken out, and requests are answered 503 without asking it, for up to
# a second after the backend listens again (907 ms seen), although 0 reads like "never disable". A backend that was away
# for 0.1 s costs the requests of a second.
#
# What hookward's users meet: a restart of hookward behind lighttpd. The listening socket has to stay open meanwhile
# (systemd socket activation, which hookward takes), then no connection is refused and nothing is taken out.
#
# Output seen:
#   backend down: 503
#   backend listens again, and answers directly: 200
#   503 through lighttpd nevertheless: yes
#   then: 200
set -euo pipefail
work="$(mktemp -d)"
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || :; rm -rf "$work"' EXIT
cd "$work"
chmod 755 .
[ -n "$(apt-cache policy lighttpd | grep -F 1.4.69-1)" ] || apt-get update -qq
apt-get download -qq lighttpd=1.4.69-1 2>/dev/null
dpkg-deb -x lighttpd_*.deb .
# Two ports that nobody has, below those that the kernel gives to clients.
read -r front back < <(python3 -c '
import random, socket
found = []
while len(found) < 2:
    port = random.randrange(20000, 32000)
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)): found.append(port)
print(*found)')
cat > l.conf <<CONF
server.modules = ( "mod_proxy" )
server.document-root = "$work"
server.bind = "127.0.0.1"
server.port = $front
proxy.server = ( "" => (( "host" => "127.0.0.1", "port" => $back, "disable-time" => 0 )) )
CONF
usr/sbin/lighttpd -D -m "$work/usr/lib/lighttpd" -f l.conf 2>log &
pids+=($!)
status() { curl -s -o /dev/null --max-time 2 -w '%{http_code}' "http://127.0.0.1:$1/" || :; }
for _ in $(seq 1 50); do [ "$(status "$front")" = 000 ] || break; sleep 0.1; done
# Past the time for which the first look has taken it out.
sleep 3
down="$(status "$front")"
echo "backend down: $down"
python3 - "$back" <<'PY' &
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
PY
pids+=($!)
# Again refused right before the backend is there, so that the tick is some way off.
for _ in $(seq 1 200); do
  [ "$(status "$back")" = 200 ] && break
  status "$front" >/dev/null
  sleep 0.02
done
echo "backend listens again, and answers directly: $(status "$back")"
refused=0
for _ in $(seq 1 60); do
  last="$(status "$front")"
  [ "$last" = 200 ] && break
  refused=$((refused + 1))
  sleep 0.05
done
echo "503 through lighttpd nevertheless: $([ "$refused" -gt 0 ] && echo yes || echo no)"
echo "then: $last"
[ "$down" = 503 ] && [ "$refused" -gt 0 ] && [ "$last" = 200 ] || { echo "this has changed" >&2; cat log >&2; exit 1; }
