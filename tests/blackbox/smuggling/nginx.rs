//! nginx between client and hookward, in two manners.

use std::net::SocketAddr;

use crate::harness::*;

pub struct Front(Nginx);

/// How much of what it gets nginx passes on as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// As installed: reads whole bodies, drops odd headers.
    Strict,
    /// Bodies as they come, chunks included, and headers however odd.
    Loose,
}

impl Manner {
    fn socket(self) -> &'static str {
        match self {
            Manner::Strict => "strict.sock",
            Manner::Loose => "loose.sock",
        }
    }
}

impl Front {
    pub fn start(hookward: SocketAddr) -> Front {
        let location = "location / {
                proxy_pass http://hookward;
                proxy_http_version 1.1;
                proxy_set_header Connection \"\";
                proxy_set_header Host $http_host;
                proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                proxy_next_upstream off;
            }";
        let sockets = [Manner::Strict.socket(), Manner::Loose.socket()];
        Front(Nginx::start(&[], &sockets, |place| {
            let place = place.display();
            // Connections that nobody answers end soon.
            format!(
                "
    client_max_body_size 2m;
    client_header_timeout 2s;
    client_body_timeout 2s;
    keepalive_timeout 200ms;
    upstream hookward {{
        server {hookward};
        keepalive 4;
    }}
    server {{
        listen unix:{place}/{};
        {location}
    }}
    server {{
        listen unix:{place}/{};
        proxy_request_buffering off;
        ignore_invalid_headers off;
        underscores_in_headers on;
        {location}
    }}",
                sockets[0], sockets[1]
            )
        }))
    }

    pub fn connect(&self, manner: Manner) -> Wire {
        self.0.connect(manner.socket())
    }
}
