//! What a user would run instead: nginx with Lua, which checks the same through libcrypto.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::rig::process::Process;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Answers 200 itself, and keeps nothing.
    Acking,
    /// Passes the request to the app, whose answer the sender gets.
    Proxying,
}

pub struct Nginx {
    /// The master.
    pub process: Process,
    pub listen: SocketAddr,
    pub start_to_ready: Duration,
}

/// Timestamp within five minutes, signature over timestamp and raw body, `data.id`. Key, message digest
/// context and regular expression are made once per worker; Debian has no cjson for nginx's Lua, and a
/// match is cheaper anyway.
const CHECK: &str = r#"
local ffi = require "ffi"
ffi.cdef[[
typedef struct evp_pkey_st EVP_PKEY;
typedef struct evp_md_ctx_st EVP_MD_CTX;
EVP_PKEY *EVP_PKEY_new_raw_public_key(int type, void *engine, const unsigned char *key, size_t length);
EVP_MD_CTX *EVP_MD_CTX_new(void);
int EVP_MD_CTX_reset(EVP_MD_CTX *context);
int EVP_DigestVerifyInit(EVP_MD_CTX *context, void *key_context, const void *type, void *engine, EVP_PKEY *key);
int EVP_DigestVerify(EVP_MD_CTX *context, const unsigned char *signature, size_t signature_length,
                     const unsigned char *message, size_t message_length);
]]
local crypto = ffi.load("libcrypto.so.3")
local ED25519 = 1087
local TOLERANCE_S = 300

local key = crypto.EVP_PKEY_new_raw_public_key(ED25519, nil, ngx.decode_base64("@PUBLIC_KEY@"), 32)
assert(key ~= nil, "no key")
local context = crypto.EVP_MD_CTX_new()

local function verifies(signature, message)
    crypto.EVP_MD_CTX_reset(context)
    return crypto.EVP_DigestVerifyInit(context, nil, nil, nil, key) == 1
        and crypto.EVP_DigestVerify(context, signature, #signature, message, #message) == 1
end

-- The event's id; a request that fails a check is answered 403.
return function()
    local signature = ngx.decode_base64(ngx.var.http_telnyx_signature_ed25519 or "")
    local timestamp = ngx.var.http_telnyx_timestamp
    local signed_s = tonumber(timestamp)
    if not signature or #signature ~= 64 or not signed_s then return ngx.exit(403) end
    ngx.req.read_body()
    local body = ngx.req.get_body_data()
    if not body or not verifies(signature, timestamp .. "|" .. body) then return ngx.exit(403) end
    if math.abs(ngx.time() - signed_s) > TOLERANCE_S then return ngx.exit(403) end
    local found = ngx.re.match(body, [["data":\s*\{[^{}]*?"id":\s*"([^"]+)"]], "jo")
    return found and found[1]
end
"#;

impl Nginx {
    pub fn start(form: Form, dir: &Path, public_key: &str, app: SocketAddr, cpus: &[usize]) -> Nginx {
        std::fs::write(dir.join("telnyx.lua"), CHECK.replace("@PUBLIC_KEY@", public_key)).unwrap();
        let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let file = dir.join("nginx.conf");
        std::fs::write(&file, config(form, dir, listen, app)).unwrap();
        let mut command = Command::new(program());
        command.arg("-p").arg(dir).arg("-c").arg(&file).arg("-e").arg("stderr");
        let begun = Instant::now();
        let process = Process::start(&mut command, cpus);
        while TcpStream::connect(listen).is_err() || process.children().is_empty() {
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "nginx does not listen; is libnginx-mod-http-lua there?"
            );
            std::thread::sleep(Duration::from_micros(500));
        }
        Nginx { process, listen, start_to_ready: begun.elapsed() }
    }
}

fn program() -> &'static str {
    if Path::new("/usr/sbin/nginx").exists() { "/usr/sbin/nginx" } else { "nginx" }
}

/// `nginx version: nginx/1.22.1`, as it says itself.
pub fn version() -> String {
    let output = Command::new(program()).arg("-v").output().expect("nginx is not installed; `.ci/tools test` does it");
    String::from_utf8_lossy(&output.stderr).trim().rsplit(' ').next().unwrap().to_owned()
}

fn config(form: Form, dir: &Path, listen: SocketAddr, app: SocketAddr) -> String {
    let place = dir.display();
    let location = match form {
        Form::Acking => {
            r#"content_by_lua_block {
                local id = require("telnyx")()
                local answer = '{"status":"accepted","event_id":"' .. (id or "") .. '"}'
                ngx.header.content_type = "application/json"
                ngx.header.content_length = #answer
                ngx.print(answer)
            }"#
        }
        Form::Proxying => {
            r#"access_by_lua_block {
                ngx.req.set_header("x-event-id", require("telnyx")())
            }
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header connection "";
            proxy_set_header host $host;"#
        }
    };
    // The script is read by the master, since the worker may not look into a directory of ours. Kept-alive
    // connections are not closed after 1,000 requests, which would cost it new ones.
    format!(
        "
daemon off;
worker_processes 1;
worker_rlimit_nofile 16384;
pid {place}/pid;
error_log stderr error;
load_module /usr/lib/nginx/modules/ndk_http_module.so;
load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    lua_package_path '{place}/?.lua;;';
    init_by_lua_block {{ require 'telnyx' }}
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    client_body_buffer_size 64k;
    keepalive_requests 1000000000;
    upstream app {{
        server {app};
        keepalive 128;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {listen} backlog=4096;
        location / {{
            {location}
        }}
    }}
}}
"
    )
}
