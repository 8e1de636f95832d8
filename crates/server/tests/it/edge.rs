//! The edge towards browsers and towards callers who may not do everything.

use serde_json::json;
use server::{Edge, Keys, Options};
use tokio::net::TcpListener;

use crate::support::{self, Ask, KEY, Server, ask, options};

const ADMIN: &str = "key-of-the-admin";
const PAGE: &str = "https://chat.example";

fn unloaded(edge: Edge) -> Options {
    Options { load_at_start: false, edge, ..options() }
}

fn swap(key: &str) -> Ask {
    Ask::new("POST", "/models/swap")
        .header("X-Internal-API-Key", key)
        .json(&json!({ "model_tag": "samosa-mini" }))
}

#[tokio::test]
async fn a_swap_takes_an_admin_key_where_there_are_some() {
    let edge = Edge { admin_keys: Keys::parse(ADMIN), ..Edge::default() };
    let server = Server::start(unloaded(edge)).await;
    let problem = server.send(swap(KEY)).await.problem().await;
    assert_eq!((&problem["status"], &problem["code"]), (&json!(403), &json!("forbidden")), "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("ADMIN_API_KEY") && !detail.contains(ADMIN), "{detail}");
    assert!(server.get("/stats").await["current_model"].is_null(), "nothing was swapped");
    assert_eq!(server.send(swap("wrong")).await.status, 401, "who is nobody is told no more");
    // A method that is none stays that, whoever asks.
    assert_eq!(server.send(Ask::new("GET", "/models/swap")).await.status, 405);
    assert_eq!(server.send(swap(ADMIN)).await.status, 202);
    for path in ["/stats", "/models"] {
        let request = Ask::new("GET", path).header("X-Internal-API-Key", ADMIN);
        assert_eq!(server.send(request).await.status, 200, "an admin key is good for {path} too");
    }
    let request = Ask::new("POST", "/generate").header("X-Internal-API-Key", ADMIN).json(&ask("Hi", 0.0, 1));
    assert_eq!(server.send(request).await.status, 200);
}

#[tokio::test]
async fn without_admin_keys_every_key_swaps() {
    let server = Server::start(unloaded(Edge::default())).await;
    assert_eq!(server.send(swap(KEY)).await.status, 202);
}

#[tokio::test]
async fn keys_that_are_replaced_are_out_with_the_next_request() {
    let edge = Edge { admin_keys: Keys::parse(ADMIN), ..Edge::default() };
    let server = Server::start(unloaded(edge)).await;
    let status = async |key: &str| {
        server.send(Ask::new("GET", "/stats").header("X-Internal-API-Key", key)).await.status
    };
    assert_eq!([status(KEY).await, status("next").await], [200, 401]);
    server.app.options.keys.replace(&Keys::parse("next"));
    assert_eq!([status(KEY).await, status("next").await, status(ADMIN).await], [401, 200, 200]);
    server.app.options.edge.admin_keys.replace(&Keys::parse("next-admin"));
    assert_eq!([status(ADMIN).await, status("next-admin").await], [401, 200]);
    assert_eq!(server.send(swap("next")).await.status, 403);
}

#[tokio::test]
async fn a_page_that_has_its_name_resolve_to_loopback_reads_nothing() {
    let server = Server::start(unloaded(Edge::default())).await;
    for path in ["/health", "/metrics", "/stats", "/generate", "/nothing"] {
        for host in ["evil.example", "evil.example:8003", "localhost.evil.example", "0.0.0.0"] {
            let problem = server.send(Ask::new("GET", path).header("Host", host)).await.problem().await;
            assert_eq!(problem["code"], "host_not_allowed", "{path} of {host}");
            assert_eq!(problem["status"], 403);
            assert!(!problem.to_string().contains("evil"), "a stranger's word is not repeated: {problem}");
        }
        let twice = Ask::new("GET", path).header("Host", "localhost").and("Host", "localhost");
        assert_eq!(server.send(twice).await.problem().await["code"], "invalid_host", "{path}");
    }
    let port = server.address.port();
    for host in [format!("127.0.0.1:{port}"), format!("localhost:{port}"), "[::1]".to_owned()] {
        assert_eq!(server.send(Ask::new("GET", "/health").header("Host", &host)).await.status, 200, "{host}");
    }
}

#[tokio::test]
async fn names_count_on_other_addresses_once_some_are_listed() {
    let on_all = async |allowed: &str| {
        let edge = Edge { allowed_hosts: allowed.parse().unwrap(), ..Edge::default() };
        Server::start_on(TcpListener::bind("0.0.0.0:0").await.unwrap(), unloaded(edge)).await
    };
    let status = async |server: &Server, path: &str, host: &str| {
        let to = std::net::SocketAddr::from(([127, 0, 0, 1], server.address.port()));
        let mut socket = tokio::net::TcpStream::connect(to).await.unwrap();
        let request = Ask::new("GET", path).header("Host", host).bytes();
        tokio::io::AsyncWriteExt::write_all(&mut socket, &request).await.unwrap();
        support::Reply::read(socket).await.status
    };
    let open = on_all("").await;
    assert_eq!(status(&open, "/stats", "anything.example").await, 200, "as long as none is listed");
    let closed = on_all("*.svc.cluster.local, inference").await;
    for host in ["inference:8003", "inference.ns.svc.cluster.local"] {
        assert_eq!(status(&closed, "/stats", host).await, 200, "{host}");
    }
    for (path, expected) in
        [("/stats", 403), ("/models", 403), ("/health", 200), ("/livez", 200), ("/metrics", 200)]
    {
        assert_eq!(status(&closed, path, "10.1.2.3:8003").await, expected, "{path}");
    }
}

fn preflight(path: &str, origin: &str) -> Ask {
    Ask::new("OPTIONS", path)
        .without("X-Internal-API-Key")
        .header("Origin", origin)
        .header("Access-Control-Request-Method", "POST")
        .header("Access-Control-Request-Headers", "content-type,x-internal-api-key")
}

#[tokio::test]
async fn without_origins_nothing_is_said_to_other_pages() {
    let server = Server::start(unloaded(Edge::default())).await;
    for request in [preflight("/generate", PAGE), Ask::new("GET", "/health").header("Origin", PAGE)] {
        let reply = server.send(request).await;
        assert!(reply.header("access-control-allow-origin").is_none(), "status {}", reply.status);
    }
    assert_eq!(server.send(preflight("/generate", PAGE)).await.status, 401);
    assert_eq!(server.send(preflight("/health", PAGE)).await.status, 405);
}

#[tokio::test]
async fn pages_of_listed_origins_may_call_and_no_others() {
    let edge =
        Edge { cors_origins: format!("{PAGE}, http://localhost:3000").parse().unwrap(), ..Edge::default() };
    let server = Server::start(unloaded(edge)).await;
    let reply = server.send(preflight("/generate", PAGE)).await;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, Some(PAGE)));
    let allowed = reply.header("access-control-allow-headers").unwrap().to_ascii_lowercase();
    let mut allowed: Vec<&str> = allowed.split(',').map(str::trim).collect();
    allowed.sort_unstable();
    let ours = "authorization content-type if-match prefer traceparent x-internal-api-key x-request-id x-seed x-trace-id";
    assert_eq!(allowed.join(" "), ours);
    assert_eq!(reply.header("access-control-allow-methods"), Some("GET,POST"));
    assert!(
        reply.header("access-control-allow-credentials").is_none(),
        "keys travel in a header of their own"
    );
    assert!(reply.header("vary").unwrap().contains("origin"));
    for origin in ["https://evil.example", "https://chat.example.evil.example", "http://chat.example", "null"]
    {
        let reply = server.send(preflight("/generate", origin)).await;
        assert!(reply.header("access-control-allow-origin").is_none(), "{origin}");
    }
    let request =
        |key: &str| Ask::new("GET", "/stats").header("Origin", PAGE).header("X-Internal-API-Key", key);
    let reply = server.send(request(KEY)).await;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, Some(PAGE)));
    let exposed = reply.header("access-control-expose-headers").unwrap();
    assert_eq!(exposed, "retry-after,x-request-id,x-trace-id");
    let refused = server.send(request("wrong")).await;
    let origin = refused.header("access-control-allow-origin");
    assert_eq!((refused.status, origin), (401, Some(PAGE)), "a page may read why it was refused");
    // What asks nothing of CORS is asked for its key, as ever; and a foreign host is one before all else.
    assert_eq!(server.send(Ask::new("OPTIONS", "/stats").without("X-Internal-API-Key")).await.status, 401);
    assert_eq!(server.send(preflight("/stats", PAGE).header("Host", "evil.example")).await.status, 403);
}

#[tokio::test]
async fn headers_of_openais_clients_pass_within_bounds() {
    let edge = Edge { cors_origins: PAGE.parse().unwrap(), ..Edge::default() };
    let server = Server::start(unloaded(edge)).await;
    let allowed = async |asked: &str| {
        let request = preflight("/v1/chat/completions", PAGE).header("Access-Control-Request-Headers", asked);
        let reply = server.send(request).await;
        assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, Some(PAGE)));
        let allowed = reply.header("access-control-allow-headers").unwrap().to_ascii_lowercase();
        allowed.split(',').map(|name| name.trim().to_owned()).collect::<Vec<String>>()
    };
    let usual = allowed("").await;
    let theirs =
        "authorization,content-type,x-stainless-arch, X-Stainless-OS ,x-stainless-a-name-of-tomorrow";
    let found = allowed(theirs).await;
    let more = ["x-stainless-arch", "x-stainless-os", "x-stainless-a-name-of-tomorrow"];
    assert_eq!(found, [&usual[..], &more.map(str::to_owned)].concat());
    let long = format!("x-stainless-{}", "a".repeat(65));
    for other in
        ["x-stainless", "x-stainless-", "x-other", "x-stainless-a b", "x-stainless-é", "*", "cookie", &long]
    {
        assert_eq!(allowed(other).await, usual, "{other}");
    }
    let many: Vec<String> = (0..100).map(|i| format!("x-stainless-{i}")).collect();
    assert_eq!(allowed(&many.join(",")).await.len(), usual.len() + 32);
}

#[tokio::test]
async fn every_answer_tells_browsers_to_make_nothing_of_it() {
    let server = Server::start(options()).await;
    let generate = || Ask::new("POST", "/generate").json(&ask("Hi", 0.0, 1));
    for (request, status, cache) in [
        (Ask::new("GET", "/health"), 200, "no-store"),
        (Ask::new("GET", "/metrics"), 200, "no-store"),
        (Ask::new("GET", "/stats"), 200, "no-store"),
        (Ask::new("GET", "/nothing"), 404, "no-store"),
        (Ask::new("GET", "/stats").without("X-Internal-API-Key"), 401, "no-store"),
        (Ask::new("GET", "/stats").header("Host", "evil.example"), 403, "no-store"),
        (Ask::new("GET", "/stats").header("X", &"x".repeat(20_000)), 431, "no-store"),
        (generate(), 200, "no-cache"),
    ] {
        let reply = server.send(request).await;
        assert_eq!(reply.status, status);
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("cache-control", cache),
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(reply.header(name), Some(value), "{name} of {status}");
        }
        for name in ["server", "x-powered-by", "strict-transport-security"] {
            assert_eq!(reply.header(name), None, "{name} of {status}");
        }
    }
}
