//! The modules that read outside bytes, as they are in `../src`, without the rest of hookward: server
//! and database take minutes to build with instrumentation and parse nothing themselves. A module
//! can stand here whose imports (`crate::…`) all stand here too, which the floors of
//! `docs/architecture.md` see to.
#![allow(dead_code, reason = "some of it is used by modules that do not stand here")]

#[path = "../../src/http/chunk_framing.rs"]
pub mod chunk_framing;
#[path = "../../src/clock.rs"]
pub mod clock;
#[path = "../../src/config/reader/mod.rs"]
pub mod config_reader;
#[path = "../../src/explain/mod.rs"]
pub mod explain;
#[path = "../../src/gate/mod.rs"]
pub mod gate;
#[path = "../../src/http/head.rs"]
pub mod head;
#[path = "../../src/json_pointer.rs"]
pub mod json_pointer;
#[path = "../../src/logging/mod.rs"]
pub mod logging;
#[path = "../../src/http/proxy_protocol.rs"]
pub mod proxy_protocol;
#[path = "../../src/rejection.rs"]
pub mod rejection;
#[path = "../../src/router.rs"]
pub mod router;
