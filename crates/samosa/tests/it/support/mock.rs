//! What the servers that tests play have in common: reading a request, and the head of an answer.

use std::io::Read;
use std::net::TcpStream;

/// Reads a request to the end of its body.
pub(crate) fn request(socket: &mut TcpStream) -> String {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !is_whole(&String::from_utf8_lossy(&request)) {
        let read = socket.read(&mut buffer).unwrap();
        assert!(read > 0, "the request ended: {}", String::from_utf8_lossy(&request));
        request.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8(request).unwrap()
}

/// A head without the length of what follows: the end of the connection is its end.
pub(crate) fn head(status: &str, content_type: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nConnection: close\r\n\r\n")
}

fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return false };
    let length = head.to_ascii_lowercase().split_once("content-length: ").map(|(_, rest)| rest.to_owned());
    let length = length.map_or(0, |length| length.lines().next().unwrap().parse().unwrap());
    body.len() >= length
}
