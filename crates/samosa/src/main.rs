//! samosa
fn main() {}
