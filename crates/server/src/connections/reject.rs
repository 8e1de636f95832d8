//! Rejects a connection beyond the limit: a 503 at once, without reading its request.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::problem::{Code, Problem};

/// Connections that are answered so at once; beyond them, new ones are just closed.
pub(crate) const AT_ONCE: usize = 64;
/// How long one may take to read it.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Answers that all connections are in use.
pub(crate) async fn reject(mut socket: TcpStream, permit: OwnedSemaphorePermit) {
    let written = timeout(TIMEOUT, async {
        socket.write_all(answer().as_bytes()).await?;
        socket.shutdown().await?;
        // A socket that is closed with bytes unread resets the connection, and the answer with it.
        let mut unread = [0; 4096];
        while socket.read(&mut unread).await? > 0 {}
        std::io::Result::Ok(())
    });
    // A client that does not read it is gone or too slow.
    let _ = written.await;
    drop(permit);
}

/// The answer, as it goes over the wire.
fn answer() -> String {
    let problem = Problem::new(Code::TooManyConnections, "As many connections are in use as may be.");
    let body = problem.body("-");
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nRetry-After: 1\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
