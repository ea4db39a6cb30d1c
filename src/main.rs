//! hookward.
fn main() {}
