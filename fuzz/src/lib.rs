//! What the fuzz targets run: the harnesses of `websocket/tests/fuzz`, which `cargo test` runs as well.

#[path = "../../websocket/tests/fuzz/harness/mod.rs"]
mod harness;

pub use harness::*;
