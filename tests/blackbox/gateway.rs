//! A gateway that asks hookward before it lets anything through: the example for nginx as it is
//! shipped, in a real nginx with Lua.

use super::harness::*;

const EXAMPLE: &str = include_str!("../../config/examples/nginx-lua.conf");
const SOCKET: &str = "gateway.sock";
const TARGET: &str = "/webhooks/telnyx";
const CONFIG: &str = "routes: [ { name: gate, path: /decide, mode: verify } ]\n";

/// The example with the addresses of this test.
fn nginx(hookward: &str, app: &str) -> Nginx {
    Nginx::start(&["ndk_http_module", "ngx_http_lua_module"], &[SOCKET], |place| {
        let listen = format!("unix:{}/{SOCKET}", place.display());
        let addresses = [("127.0.0.1:8080", hookward), ("127.0.0.1:3000", app), ("127.0.0.1:8000", &*listen)];
        addresses.iter().fold(EXAMPLE.to_owned(), |example, (written, real)| {
            assert!(example.contains(written), "{written}");
            example.replace(written, real)
        })
    })
}

#[test]
fn nginx_lets_through_what_hookward_verifies_with_its_name_and_nothing_else() {
    let sink = Sink::start();
    let hookward = Setup::without_upstream().config(CONFIG).start();
    let nginx = nginx(&hookward.listen().to_string(), &sink.url().replace("http://", ""));
    let mut wire = nginx.connect(SOCKET);

    // Larger than what nginx keeps in memory, and in chunks, too.
    let large = [body("large").as_slice(), &vec![b' '; 200_000]].concat();
    let genuine = [signed(body("small")), signed(large.clone()), signed(large).chunked(1_000)];
    for (n, request) in genuine.into_iter().enumerate() {
        let sent = request.body_bytes();
        let claim = request.target(TARGET).header("hookward-verified", "says the client");
        assert_eq!(wire.ask(&claim).status, 200, "{n}");
        let got = sink.wait_for(n + 1).remove(n);
        assert!(got.body == sent, "{n}: other bytes");
        assert_eq!(got.all("hookward-verified"), ["telnyx; key=key1"]);
    }
    assert_eq!(sink.wait_for(3)[0].all("hookward-event-id"), ["small"]);

    for (request, reason) in
        [(forged(), "signature_mismatch"), (signed_at(now_s() - 301, body("old")), "timestamp_stale")]
    {
        let got = wire.ask(&request.target(TARGET));
        assert_eq!((got.status, got.reason().as_str()), (403, reason));
    }
    assert_eq!(wire.ask(&event().target("/decide")).status, 404, "not for clients");
    assert_eq!(sink.count(), 3);
}

#[test]
fn nginx_lets_nothing_through_while_hookward_is_gone() {
    let sink = Sink::start();
    let nginx = nginx("unix:/nonexistent/hookward.sock", &sink.url().replace("http://", ""));
    assert_eq!(nginx.connect(SOCKET).ask(&event().target(TARGET)).status, 502);
    assert_eq!(sink.count(), 0);
}
