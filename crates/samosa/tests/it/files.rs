//! As many connections as are allowed, in a process that may open fewer files at first.

use std::net::TcpStream;

use crate::support::running::Running;

#[test]
fn idle_connections_make_room_before_the_process_is_out_of_files() {
    let environment = [("MAX_CONNECTIONS", "120"), ("HEADER_TIMEOUT", "60"), ("INTERNAL_API_KEY", "key")];
    let mut server = Running::start_limited("ulimit -Sn 64", &environment);
    server.wait_for("its model", |server| server.health()["ready"] == true);
    let forgotten: Vec<TcpStream> = (0..150).map(|_| TcpStream::connect(&server.address).unwrap()).collect();
    assert_eq!(server.health()["ready"], true);
    drop(forgotten);
    assert!(!server.stdout().contains("too few files"), "{}", server.stdout());
    let mut poor = Running::start_limited("ulimit -n 64", &environment);
    poor.wait_for("a warning", |poor| poor.stdout().contains("too few files for MAX_CONNECTIONS"));
}
