//! The page for browsers: chat, models and live figures at `/`, the API explorer at `/docs`.
//!
//! Its source is `web/`, and what is served is `web/dist`, as it was built and committed: building the service takes no
//! Node. The page is the same for everybody and needs no key; what it asks the service for does.

use std::io::Write as _;
use std::sync::LazyLock;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use crate::openapi;
use crate::problem::response::not_found;

/// Where its parts are, beside [`PATHS`].
const ASSETS: &str = "/assets/";
/// Its addresses.
const PATHS: [&str; 5] = ["/", "/docs", "/icon.svg", "/openapi.json", "/openai.json"];

/// What the page may do: run its own scripts, show its own styles, fonts and pictures, ask its own service. Nothing else,
/// nowhere else, in nobody's frame; and no text becomes HTML but what its sanitiser has been through.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types dompurify",
);
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");

/// A file of the page.
struct PageFile {
    path: &'static str,
    media_type: &'static str,
    bytes: &'static [u8],
}

macro_rules! file {
    ($path:literal, $name:literal, $media_type:literal) => {
        PageFile {
            path: $path,
            media_type: $media_type,
            bytes: include_bytes!(concat!("../../../web/dist/", $name)),
        }
    };
}

/// All of them; a test compares them with the folder.
const FILES: &[PageFile] = &[
    file!("/", "index.html", "text/html; charset=utf-8"),
    file!("/docs", "docs.html", "text/html; charset=utf-8"),
    file!("/icon.svg", "icon.svg", "image/svg+xml"),
    file!("/assets/index.js", "assets/index.js", "text/javascript; charset=utf-8"),
    file!("/assets/index.css", "assets/index.css", "text/css; charset=utf-8"),
    file!("/assets/chart.js", "assets/chart.js", "text/javascript; charset=utf-8"),
    file!("/assets/chart.css", "assets/chart.css", "text/css; charset=utf-8"),
    file!("/assets/docs.js", "assets/docs.js", "text/javascript; charset=utf-8"),
    file!("/assets/docs.css", "assets/docs.css", "text/css; charset=utf-8"),
    file!("/assets/shared.js", "assets/shared.js", "text/javascript; charset=utf-8"),
    file!("/assets/shared.css", "assets/shared.css", "text/css; charset=utf-8"),
    file!("/assets/figtree.woff2", "assets/figtree.woff2", "font/woff2"),
    file!("/assets/young-serif.woff2", "assets/young-serif.woff2", "font/woff2"),
];

/// What is answered with.
struct Ready {
    path: &'static str,
    media_type: &'static str,
    bytes: Bytes,
    /// The hash of its bytes.
    tag: HeaderValue,
    /// The same bytes, packed, where that makes them less.
    packed: Option<Bytes>,
}

static READY: LazyLock<Vec<Ready>> = LazyLock::new(|| {
    let files = FILES.iter();
    let mut ready: Vec<Ready> =
        files.map(|file| Ready::new(file.path, file.media_type, Bytes::from_static(file.bytes))).collect();
    // What the explorer explains.
    for (path, document) in [("/openapi.json", openapi::inference()), ("/openai.json", openapi::openai())] {
        ready.push(Ready::new(path, "application/json", document.to_string().into()));
    }
    ready
});

/// Whether a path is the page's.
pub(crate) fn has(path: &str) -> bool {
    PATHS.contains(&path) || path.starts_with(ASSETS)
}

/// The page's routes.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(answer))
        .route("/docs", get(answer))
        .route("/icon.svg", get(answer))
        .route("/openapi.json", get(answer))
        .route("/openai.json", get(answer))
        .route("/assets/{file}", get(answer))
}

async fn answer(request: Request) -> Response {
    let path = request.uri().path();
    match READY.iter().find(|ready| ready.path == path) {
        Some(ready) => ready.answer(request.headers()),
        None => not_found(request).await,
    }
}

impl Ready {
    fn new(path: &'static str, media_type: &'static str, bytes: Bytes) -> Self {
        let hash = Sha256::digest(&bytes);
        let hash = u128::from_be_bytes(std::array::from_fn(|i| hash[i]));
        // Letters and digits in quotes are a header's value.
        let tag = HeaderValue::from_str(&format!("\"{hash:032x}\""));
        let tag = tag.unwrap_or(HeaderValue::from_static("\"\""));
        let packed = pack(&bytes);
        Self { path, media_type, bytes, tag, packed }
    }

    fn answer(&self, headers: &HeaderMap) -> Response {
        let shared = [
            (ETAG, self.tag.clone()),
            (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (VARY, HeaderValue::from_static("accept-encoding")),
            (CONTENT_SECURITY_POLICY, POLICY),
            (OPENER_POLICY, HeaderValue::from_static("same-origin")),
            (PERMISSIONS_POLICY, HeaderValue::from_static("camera=(), geolocation=(), microphone=()")),
        ];
        if names(headers, &IF_NONE_MATCH, |tag| {
            tag.trim_start_matches("W/").as_bytes() == self.tag.as_bytes()
        }) {
            return (StatusCode::NOT_MODIFIED, shared).into_response();
        }
        let media_type = [(CONTENT_TYPE, HeaderValue::from_static(self.media_type))];
        match &self.packed {
            Some(packed) if takes_gzip(headers) => {
                let encoding = [(CONTENT_ENCODING, HeaderValue::from_static("gzip"))];
                (shared, media_type, encoding, packed.clone()).into_response()
            }
            _ => (shared, media_type, self.bytes.clone()).into_response(),
        }
    }
}

/// Fonts are packed already, and small files gain nothing.
fn pack(bytes: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).ok()?;
    let packed = encoder.finish().ok()?;
    (packed.len() * 10 < bytes.len() * 9).then(|| packed.into())
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    names(headers, &ACCEPT_ENCODING, |coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let is_refused = weight.trim().strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0));
        name.trim().eq_ignore_ascii_case("gzip") && !is_refused
    })
}

/// Whether one of a header's listed values is the one.
fn names(headers: &HeaderMap, name: &HeaderName, is_it: impl Fn(&str) -> bool) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|value| is_it(value.trim()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn listed(folder: &Path, before: &str) -> BTreeSet<String> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
        let names = entries.filter(|entry| entry.file_type().unwrap().is_file());
        names.map(|entry| format!("{before}{}", entry.file_name().into_string().unwrap())).collect()
    }

    #[test]
    fn the_files_are_those_of_the_folder() {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../web/dist"));
        let mut there = listed(folder, "/");
        there.extend(listed(&folder.join("assets"), ASSETS));
        let named = |file: &PageFile| match file.path {
            "/" => "/index.html".to_owned(),
            "/docs" => "/docs.html".to_owned(),
            path => path.to_owned(),
        };
        assert_eq!(FILES.iter().map(named).collect::<BTreeSet<_>>(), there);
        assert!(FILES.iter().all(|file| has(file.path)));
    }

    #[test]
    fn gzip_is_for_those_who_take_it() {
        let with = |value: &'static str| {
            takes_gzip(&HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(value))]))
        };
        assert!(with("gzip") && with("br, GZip;q=0.5, *") && with("deflate,gzip"));
        assert!(!with("") && !with("br") && !with("gzip;q=0") && !with("x-gzip-not"));
    }
}
