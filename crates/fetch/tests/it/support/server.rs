//! An HTTP/1.1 server on a socket of its own whose answers can be wrong in every way.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What a client asked.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: BTreeMap<String, String>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The range asked for, its end excluded.
    pub(crate) fn range(&self) -> Option<Range<usize>> {
        let (first, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some(first.parse().ok()?..last.parse::<usize>().ok()? + 1)
    }
}

/// How a body is sent.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Manner {
    Whole,
    /// The connection ends after so many bytes.
    Cut(usize),
    /// Nothing more comes after so many bytes, and the connection stays.
    Stall(usize),
    /// A byte now and then.
    Trickle,
    /// The connection ends before the answer.
    Drop,
    /// No answer comes.
    Silent,
}

/// What is answered.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) manner: Manner,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), manner: Manner::Whole }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn body(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::status(status) }
    }

    pub(crate) fn manner(mut self, manner: Manner) -> Self {
        self.manner = manner;
        self
    }

    /// A file, or the part of it that was asked for.
    pub(crate) fn file(request: &Request, bytes: &[u8]) -> Self {
        match request.range() {
            Some(range) if range.start >= bytes.len() => {
                Self::status(416).with("Content-Range", format!("bytes */{}", bytes.len()))
            }
            Some(range) => {
                let range = range.start..range.end.min(bytes.len());
                let value = format!("bytes {}-{}/{}", range.start, range.end - 1, bytes.len());
                Self::body(206, &bytes[range]).with("Content-Range", value)
            }
            None => Self::body(200, bytes),
        }
    }
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

/// One request and what was sent for it.
#[derive(Clone, Debug)]
pub(crate) struct Logged {
    pub(crate) request: Request,
    pub(crate) status: u16,
    /// Bytes of the body that went out.
    pub(crate) sent: usize,
}

/// A running server. It ends with the test's runtime.
#[derive(Clone)]
pub(crate) struct Server {
    /// `127.0.0.1:PORT`.
    pub(crate) host: String,
    log: Arc<Mutex<Vec<Logged>>>,
    busiest: Arc<Mutex<(usize, usize)>>,
}

impl Server {
    pub(crate) async fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let server = Self { host, log: Arc::default(), busiest: Arc::default() };
        let (handler, shared): (Arc<Handler>, _) = (Arc::new(handler), server.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (handler, shared) = (handler.clone(), shared.clone());
                tokio::spawn(async move { shared.serve(stream, &*handler).await });
            }
        });
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.host)
    }

    pub(crate) fn log(&self) -> Vec<Logged> {
        self.log.lock().unwrap().clone()
    }

    /// Bytes of all bodies.
    pub(crate) fn sent(&self) -> usize {
        self.log().iter().map(|logged| logged.sent).sum()
    }

    /// The most requests that were answered at one time.
    pub(crate) fn most_at_once(&self) -> usize {
        self.busiest.lock().unwrap().1
    }

    async fn serve(&self, stream: TcpStream, handler: &Handler) {
        stream.set_nodelay(true).unwrap();
        let (read, mut write) = stream.into_split();
        let mut read = BufReader::new(read);
        while let Some(request) = read_request(&mut read).await {
            {
                let mut busiest = self.busiest.lock().unwrap();
                busiest.0 += 1;
                busiest.1 = busiest.1.max(busiest.0);
            }
            let reply = handler(&request);
            // Others get the chance to ask at the same time.
            tokio::time::sleep(Duration::from_millis(1)).await;
            let (status, manner) = (reply.status, reply.manner);
            let sent = send(&mut write, &request, reply).await;
            self.busiest.lock().unwrap().0 -= 1;
            self.log.lock().unwrap().push(Logged { request, status, sent });
            if manner != Manner::Whole {
                return;
            }
        }
    }
}

async fn read_request(read: &mut BufReader<tokio::net::tcp::OwnedReadHalf>) -> Option<Request> {
    let mut line = String::new();
    read.read_line(&mut line).await.ok().filter(|length| *length > 0)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        read.read_line(&mut line).await.ok().filter(|length| *length > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            return Some(Request { method, target, headers });
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
}

async fn send(socket: &mut tokio::net::tcp::OwnedWriteHalf, request: &Request, reply: Reply) -> usize {
    const FOR_EVER: Duration = Duration::from_mins(10);
    match reply.manner {
        Manner::Drop => return 0,
        Manner::Silent => {
            tokio::time::sleep(FOR_EVER).await;
            return 0;
        }
        _ => {}
    }
    let mut head = format!("HTTP/1.1 {} Some words\r\n", reply.status);
    for (name, value) in &reply.headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    write!(head, "Content-Length: {}\r\n\r\n", reply.body.len()).unwrap();
    let body = if request.method == "HEAD" { &[][..] } else { &reply.body };
    let part = match reply.manner {
        Manner::Cut(length) | Manner::Stall(length) => &body[..length.min(body.len())],
        Manner::Trickle => &[],
        _ => body,
    };
    if socket.write_all(head.as_bytes()).await.is_err() || socket.write_all(part).await.is_err() {
        return 0;
    }
    match reply.manner {
        Manner::Stall(_) => tokio::time::sleep(FOR_EVER).await,
        Manner::Trickle => {
            for byte in body {
                tokio::time::sleep(Duration::from_millis(20)).await;
                if socket.write_all(&[*byte]).await.is_err() {
                    break;
                }
            }
        }
        _ => {}
    }
    part.len()
}
