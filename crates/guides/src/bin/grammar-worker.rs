//! The worker by itself, for tests of this crate and of the server. What is shipped has it as a hidden command of `samosa`.

#![forbid(unsafe_code)]

use std::os::fd::AsFd;

fn main() -> std::io::Result<()> {
    guides::worker::run(std::io::stdin().as_fd().try_clone_to_owned()?)
}
