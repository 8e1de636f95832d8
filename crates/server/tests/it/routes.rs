//! A walk over every route: all but the public ones ask for the key. And text that stays text.

use std::collections::{BTreeMap, BTreeSet};

use registry::Catalog;
use serde_json::Value;
use server::{Edge, Keys};

use crate::support::{Ask, KEY, Server, ask, options};

const CONTRACT: &str = include_str!("../../../../contract/inference-api.yaml");
const OPENAI: &str = include_str!("../../../../contract/openai-api.yaml");
/// Where the router is made: whoever adds a route there adds it to this walk.
const ROUTER: &str = include_str!("../../src/routes.rs");
/// What asks for the key too, though no contract has it.
const BEYOND: &str = "/stats/history";
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"];
/// Paths that are no route, some of them close to a public one.
const OTHERS: [&str; 23] = [
    "/index.html",
    "/nothing",
    "/docs/",
    "/assets",
    "/admin",
    "/health/",
    "/Health",
    "//health",
    "/health/x",
    "/health/../generate",
    "/%68ealth",
    "/health%2f..%2fgenerate",
    "/health;/generate",
    "/metrics/",
    "/generate/",
    "/models/",
    "/models/swap/x",
    "/models/..%2f..%2fetc%2fpasswd",
    "/v1",
    "/v1/",
    "/v1/chat/completions/",
    "/v1/models/%2e%2e/health",
    "*",
];

fn contract() -> Value {
    serde_yaml_ng::from_str(CONTRACT).unwrap()
}

/// The paths of a contract.
fn paths(contract: &str) -> BTreeSet<String> {
    let contract: Value = serde_yaml_ng::from_str(contract).unwrap();
    contract["paths"].as_object().unwrap().keys().cloned().collect()
}

/// The paths written in the router's source.
fn routed() -> BTreeSet<String> {
    let ends = ROUTER.split(".route(\"").skip(1);
    ends.map(|rest| rest.split_once('"').unwrap().0.to_owned()).collect()
}

#[test]
fn the_router_has_the_contracts_paths_and_the_public_ones() {
    let (mut expected, openai) = (paths(CONTRACT), paths(OPENAI));
    assert_eq!((expected.len(), openai.len()), (5, 6));
    expected.insert(BEYOND.to_owned());
    // A model's name may have slashes, which a contract cannot say.
    expected.extend(openai.iter().map(|path| path.replace("{model}", "{*model}")));
    expected.extend(server::PUBLIC.map(str::to_owned));
    assert_eq!(routed(), expected);
    assert_eq!(server::PUBLIC, ["/health", "/livez", "/readyz", "/metrics"]);
}

#[test]
fn what_the_contract_secures_is_not_public_and_the_rest_is() {
    for (path, operations) in contract()["paths"].as_object().unwrap() {
        let secured =
            operations.as_object().unwrap().values().all(|o| o["security"][0]["internalApiKey"].is_array());
        assert_eq!(secured, !server::PUBLIC.contains(&path.as_str()), "{path}");
    }
}

#[tokio::test]
async fn every_route_but_the_public_ones_asks_for_the_key() {
    let server = Server::start(server::Options { load_at_start: false, ..options() }).await;
    let mut paths = routed();
    paths.extend(OTHERS.map(str::to_owned));
    let mut asked = 0;
    for (path, method) in paths.iter().flat_map(|path| METHODS.map(|method| (path, method))) {
        let public = server::PUBLIC.contains(&path.as_str());
        for key in [None, Some("wrong"), Some("")] {
            for path in [path.clone(), format!("{path}?key=key-of-the-tests")] {
                let mut request = Ask::new(method, &path).without("X-Internal-API-Key");
                if let Some(key) = key {
                    request = request.header("X-Internal-API-Key", key);
                }
                let status = server.send(request).await.status;
                let starred = path.starts_with("*?");
                assert!(public != (status == 401) || starred, "{method} {path} with {key:?}: {status}");
                asked += usize::from(status == 401);
            }
        }
        let status = server.send(Ask::new(method, path)).await.status;
        assert_ne!(status, 401, "{method} {path} with the key");
    }
    assert!(asked > 1000, "{asked}");
}

/// A server without a model, and every path that the walk goes to.
async fn walk(edge: Edge) -> (Server, BTreeSet<String>) {
    let mut paths = routed();
    paths.extend(OTHERS.map(str::to_owned));
    let options = server::Options { load_at_start: false, edge, ..options() };
    (Server::start(options).await, paths)
}

#[tokio::test]
async fn with_admin_keys_the_swap_is_the_one_route_that_an_internal_key_is_refused() {
    let edge = Edge { admin_keys: Keys::parse("key-of-the-admin"), ..Edge::default() };
    let (server, paths) = walk(edge).await;
    let mut refused = Vec::new();
    for (path, method) in paths.iter().flat_map(|path| METHODS.map(|method| (path, method))) {
        let public = server::PUBLIC.contains(&path.as_str());
        let mut status = BTreeMap::new();
        for key in ["", "wrong", KEY, "key-of-the-admin"] {
            let request = Ask::new(method, path).header("X-Internal-API-Key", key);
            status.insert(key, server.send(request).await.status);
        }
        assert_eq!([status[""], status["wrong"]].contains(&401), !public, "{method} {path}: {status:?}");
        assert!(![401, 403].contains(&status["key-of-the-admin"]), "{method} {path}: {status:?}");
        if status[KEY] == 403 {
            refused.push(format!("{method} {path}"));
        } else {
            assert_eq!(status[KEY], status["key-of-the-admin"], "{method} {path}");
        }
    }
    assert_eq!(refused, ["POST /models/swap"]);
}

#[tokio::test]
async fn preflights_need_no_key_and_reach_no_handler() {
    let origin = "https://chat.example";
    let (server, paths) = walk(Edge { cors_origins: origin.parse().unwrap(), ..Edge::default() }).await;
    for path in &paths {
        for wanted in METHODS {
            let preflight = Ask::new("OPTIONS", path)
                .without("X-Internal-API-Key")
                .header("Origin", origin)
                .header("Access-Control-Request-Method", wanted);
            let reply = server.send(preflight).await;
            assert_eq!(reply.status, 200, "{wanted} {path}");
            assert!(reply.rest().await.is_empty(), "{wanted} {path}: nobody was asked");
        }
        // A cross-origin request itself is asked for its key like any other, with and without half of a preflight.
        let public = server::PUBLIC.contains(&path.as_str());
        for (method, header) in
            [("GET", "Origin"), ("OPTIONS", "Origin"), ("OPTIONS", "Access-Control-Request-Method")]
        {
            let request = Ask::new(method, path).without("X-Internal-API-Key").header(header, origin);
            assert_eq!(server.send(request).await.status == 401, !public, "{method} {path} with {header}");
        }
    }
}

#[tokio::test]
async fn no_route_answers_to_a_foreign_name() {
    let (server, paths) = walk(Edge::default()).await;
    for (path, method) in paths.iter().flat_map(|path| METHODS.map(|method| (path, method))) {
        let status = server.send(Ask::new(method, path).header("Host", "evil.example")).await.status;
        assert_eq!(status, 403, "{method} {path}");
    }
}

#[tokio::test]
async fn text_spelled_like_a_special_token_stays_text() {
    let server = Server::start(options()).await;
    let catalog = Catalog::new(None);
    let entry = catalog.find(&registry::builtin::tag()).unwrap();
    let tokenizer = registry::open::open(&catalog, &entry, None).unwrap().opened.tokenizer;
    let names = [
        "bos",
        "user_start",
        "user_end",
        "assistant_start",
        "assistant_end",
        "python_start",
        "python_end",
        "output_start",
        "output_end",
    ]
    .map(|name| format!("<|{name}|>"))
    .map(|name| (tokenizer.special(&name).unwrap(), name));
    for (id, name) in &names {
        assert_eq!(tokenizer.token_bytes(*id).unwrap(), name.as_bytes(), "that is how it is spelled");
        for content in [name.clone(), format!("a{name}b"), format!("{name}{name}")] {
            let ids = tokenizer.encode(&content);
            assert!(names.iter().all(|(id, _)| !ids.contains(id)), "{content}: {ids:?}");
            let told = server.told(&ask(&content, 0.0, 1)).await;
            // BOS, user_start, user_end and assistant_start come from the template.
            assert_eq!(told.last["usage"]["prompt_tokens"], ids.len() + 4, "{content}");
        }
    }
}
