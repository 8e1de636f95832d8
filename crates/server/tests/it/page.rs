//! The page is there for everybody who asks by our name, whole, packed and known again, and can do no more than it must.
use server::{Edge, Options};
use tokio::net::TcpListener;

use crate::support::{Ask, Reply, Server, options};

const FILES: [(&str, &str); 7] = [
    ("/openapi.json", "application/json"),
    ("/openai.json", "application/json"),
    ("/", "text/html; charset=utf-8"),
    ("/docs", "text/html; charset=utf-8"),
    ("/icon.svg", "image/svg+xml"),
    ("/assets/index.js", "text/javascript; charset=utf-8"),
    ("/assets/figtree.woff2", "font/woff2"),
];

async fn start() -> Server {
    Server::start(Options { load_at_start: false, ..options() }).await
}

fn ask(path: &str) -> Ask {
    Ask::new("GET", path).without("X-Internal-API-Key")
}

async fn body(reply: Reply) -> Vec<u8> {
    reply.rest().await
}

#[tokio::test]
async fn it_needs_no_key_and_may_run_nothing_but_itself() {
    let server = start().await;
    for (path, media_type) in FILES {
        let reply = server.send(ask(path)).await;
        assert_eq!((reply.status, reply.header("content-type")), (200, Some(media_type)), "{path}");
        let policy = reply.header("content-security-policy").unwrap().to_owned();
        for part in [
            "default-src 'none'",
            "script-src 'self';",
            "connect-src 'self';",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        ] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cache-control", "no-cache"),
        ] {
            assert_eq!(reply.header(name), Some(value), "{name} of {path}");
        }
        assert!(!body(reply).await.is_empty(), "{path}");
    }
}

#[tokio::test]
async fn it_names_no_other_host_and_holds_no_script_of_its_own_in_its_markup() {
    let server = start().await;
    for path in ["/", "/docs"] {
        let markup = String::from_utf8(body(server.send(ask(path)).await).await).unwrap();
        assert!(!markup.contains("http:") && !markup.contains("https:"), "{markup}");
        assert!(!markup.contains("style=") && !markup.contains("onload="), "{markup}");
        for script in markup.split("<script").skip(1) {
            let (attributes, content) = script.split_once('>').unwrap();
            assert!(attributes.contains("src=\"./assets/") && content.starts_with("</script>"), "{script}");
        }
    }
}

#[tokio::test]
async fn whoever_has_it_is_told_so_and_whoever_takes_gzip_gets_less() {
    let server = start().await;
    let plain = server.send(ask("/assets/index.js")).await;
    let tag = plain.header("etag").unwrap().to_owned();
    let plain = body(plain).await;
    for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}")] {
        let reply = server.send(ask("/assets/index.js").header("If-None-Match", &known)).await;
        assert_eq!((reply.status, reply.header("etag")), (304, Some(tag.as_str())), "{known}");
        assert!(body(reply).await.is_empty());
    }
    let other = server.send(ask("/assets/index.js").header("If-None-Match", "\"other\"")).await;
    assert_eq!(other.status, 200);
    let packed = server.send(ask("/assets/index.js").header("Accept-Encoding", "br, gzip")).await;
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert_eq!(packed.header("vary"), Some("accept-encoding"));
    let packed = body(packed).await;
    assert!(packed.len() * 2 < plain.len(), "{} of {}", packed.len(), plain.len());
    assert_eq!(packed[..2], [0x1f, 0x8b]);
    let font = server.send(ask("/assets/figtree.woff2").header("Accept-Encoding", "gzip")).await;
    assert_eq!(font.header("content-encoding"), None, "a font is packed already");
}

#[tokio::test]
async fn the_explorer_finds_both_contracts() {
    let server = start().await;
    for (path, operation) in [("/openapi.json", "/generate"), ("/openai.json", "/v1/chat/completions")] {
        let document = body(server.send(ask(path)).await).await;
        let document: serde_json::Value = serde_json::from_slice(&document).unwrap();
        assert!(document["paths"][operation]["post"]["summary"].is_string(), "{path}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found_and_paths_lead_nowhere() {
    let server = start().await;
    for path in ["/assets/nothing.js", "/assets/..%2findex.html", "/assets/%2e%2e/Cargo.toml"] {
        let reply = server.send(ask(path)).await;
        assert_eq!(reply.status, 404, "{path}");
        assert_eq!(reply.problem().await["code"], "not_found", "{path}");
    }
    assert_eq!(server.send(Ask::new("POST", "/").without("X-Internal-API-Key")).await.status, 405);
}

#[tokio::test]
async fn it_answers_to_our_names_only_and_not_at_all_where_it_is_not_wanted() {
    let server = start().await;
    assert_eq!(server.send(ask("/").header("Host", "evil.example")).await.status, 403);
    // Probes may come by address where names are listed; a browser may not.
    let edge = Edge { allowed_hosts: "inference".parse().unwrap(), ..Edge::default() };
    let listening = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let listed = Server::start_on(listening, Options { load_at_start: false, edge, ..options() }).await;
    assert_eq!(listed.send(ask("/").header("Host", "10.1.2.3:8003")).await.status, 403);
    assert_eq!(listed.send(ask("/").header("Host", "inference")).await.status, 200);
    let without = Server::start(Options { load_at_start: false, page: false, ..options() }).await;
    for (path, _) in FILES {
        assert_eq!(without.send(ask(path)).await.status, 404, "{path}");
    }
}
