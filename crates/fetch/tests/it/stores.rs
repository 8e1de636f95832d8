//! Directories on web servers, and buckets of a real S3 server.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use fetch::{Error, FetchSettings};
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;

use crate::support::{Bench, Files, Reply, Request, Server, TOY_FILES, settings, sha256, toy_model, wanted};

fn sums(files: &Files) -> Vec<u8> {
    let lines = files.iter().map(|(name, bytes)| format!("{}  {name}\n", sha256(bytes)));
    lines.collect::<String>().into_bytes()
}

/// A directory `/weights/d20` with a version for each file.
fn serve(files: &Files, request: &Request) -> Reply {
    let name = request.target.strip_prefix("/weights/d20/").unwrap_or_default();
    let listed = sums(files);
    let bytes = if name == "SHA256SUMS" { Some(&listed) } else { files.get(name).map(|bytes| &**bytes) };
    let Some(bytes) = bytes else { return Reply::status(404) };
    let etag = format!("\"{}\"", &sha256(bytes)[..8]);
    if request.header("if-match").is_some_and(|wanted| wanted != etag) {
        return Reply::status(412);
    }
    Reply::file(request, bytes).with("ETag", etag)
}

async fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> (Server, String) {
    let server = Server::start(handler).await;
    let source = format!("{}/weights/d20", server.url());
    (server, source)
}

#[tokio::test]
async fn a_web_directory_is_fetched_by_its_sums() {
    let files = toy_model(1);
    let (server, source) = start(move |request| serve(&toy_model(1), request)).await;
    let bench = Bench::new(settings());
    let provenance = bench.fetch(&wanted(&source)).await.unwrap();
    bench.assert_installed(&files, &TOY_FILES);
    assert_eq!((provenance.source, provenance.commit), (source.clone(), None));
    let pieces = server.log();
    let pieces = pieces.iter().filter(|l| l.request.range().is_some_and(|r| r != (0..1)));
    assert!(pieces.clone().all(|l| l.status == 206 && l.request.header("if-match").is_some()));
    assert!(pieces.count() > 6);
    let before = server.log().len();
    bench.fetch(&wanted(&source)).await.unwrap();
    assert_eq!(server.log().len(), before);
}

#[tokio::test]
async fn a_web_server_without_ranges_or_versions_will_do() {
    let plain = |request: &Request| {
        let mut request = request.clone();
        request.headers.remove("range");
        let mut reply = serve(&toy_model(1), &request);
        reply.headers.clear();
        reply
    };
    let (_server, source) = start(plain).await;
    let bench = Bench::new(settings());
    bench.fetch(&wanted(&source)).await.unwrap();
    bench.assert_installed(&toy_model(1), &TOY_FILES);
}

#[tokio::test]
async fn without_sums_the_error_tells_how_to_make_them() {
    let (_server, source) = start(|request| {
        if request.target.ends_with("SUMS") { Reply::status(404) } else { serve(&toy_model(1), request) }
    })
    .await;
    let bench = Bench::new(settings());
    assert_error!(bench.fetch(&wanted(&source)).await.unwrap_err(), Error::NoSums { url } if *url == source);
    let (_server, source) = start(|_| Reply::body(200, "<!doctype html>")).await;
    let error = bench.fetch(&wanted(&source)).await.unwrap_err();
    assert_error!(error, Error::Listing { reason, .. } if reason.contains("line 1 of SHA256SUMS"));
}

#[tokio::test]
async fn sums_that_do_not_hold_are_errors() {
    let (_server, source) = start(|request| {
        if request.target.ends_with("SUMS") {
            return Reply::body(200, sums(&toy_model(2)));
        }
        serve(&toy_model(1), request)
    })
    .await;
    let bench = Bench::new(settings());
    let error = bench.fetch(&wanted(&source)).await.unwrap_err();
    assert_error!(error, Error::DigestMismatch { file, .. } if file == "meta_000007.json");

    let (_server, source) = start(|request| {
        let mut files = toy_model(1);
        if !request.target.ends_with("SUMS") {
            files.remove("tokenizer.pkl");
        }
        serve(&files, request)
    })
    .await;
    let error = bench.fetch(&wanted(&source)).await.unwrap_err();
    assert_error!(error, Error::FileNotFound { source_name, file } if *source_name == source && file == "tokenizer.pkl");
}

#[tokio::test]
async fn a_file_that_changes_meanwhile_is_fetched_anew_or_given_up() {
    // The second version comes after a few pieces of the first.
    let seen = AtomicUsize::new(0);
    let (_server, source) = start(move |request| {
        let pieces = usize::from(request.header("if-match").is_some());
        let seed = if seen.fetch_add(pieces, Ordering::Relaxed) < 5 { 1 } else { 2 };
        serve(&toy_model(seed), request)
    })
    .await;
    let bench = Bench::new(settings());
    bench.fetch(&wanted(&source)).await.unwrap();
    bench.assert_installed(&toy_model(2), &TOY_FILES);

    // Each request finds another version, also where the server does not look at conditions.
    for looks in [true, false] {
        let seen = AtomicUsize::new(0);
        let (_server, source) = start(move |request| {
            let mut request = request.clone();
            if !looks {
                request.headers.remove("if-match");
            }
            serve(&toy_model(seen.fetch_add(1, Ordering::Relaxed) as u8), &request)
        })
        .await;
        let bench = Bench::new(settings());
        assert_error!(bench.fetch(&wanted(&source)).await.unwrap_err(), Error::Changed { .. });
        assert!(!bench.model().exists());
    }
}

/// A real S3 server over a directory with the files in `bucket/models/d20`.
struct S3 {
    directory: tempfile::TempDir,
    address: String,
    /// What comes before the service for the next requests, if anything.
    faults: Arc<Mutex<Vec<u16>>>,
}

impl S3 {
    async fn start(files: &Files) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = directory.path().join("bucket/models/d20").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, &**bytes).unwrap();
        }
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(directory.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single("the-key", "the-secret"));
        let service = builder.build();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let faults: Arc<Mutex<Vec<u16>>> = Arc::default();
        let scripted = faults.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (service, scripted) = (service.clone(), scripted.clone());
                let answer = hyper::service::service_fn(move |request| {
                    let (service, fault) = (service.clone(), scripted.lock().unwrap().pop());
                    async move {
                        if let Some(status) = fault {
                            let reply = hyper::Response::builder().status(status);
                            return Ok(reply.body(s3s::Body::from(Vec::new())).unwrap());
                        }
                        hyper::service::Service::call(&service, request).await
                    }
                });
                let connection =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
                tokio::spawn(connection);
            }
        });
        Self { directory, address, faults }
    }

    fn settings(&self, secret: &str) -> FetchSettings {
        let pairs = [
            ("AWS_ENDPOINT_URL", format!("http://{}", self.address)),
            ("AWS_ACCESS_KEY_ID", "the-key".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", secret.to_owned()),
            ("AWS_REGION", "eu-central-1".to_owned()),
            ("AWS_PROFILE", "of no interest".to_owned()),
        ];
        FetchSettings { s3: pairs.map(|(name, value)| (name.to_owned(), value)).to_vec(), ..settings() }
    }
}

const BUCKET: &str = "s3://bucket/models/d20";

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_listed_and_fetched_with_signatures() {
    let files = toy_model(1);
    let s3 = S3::start(&files).await;
    let bench = Bench::new(s3.settings("the-secret"));
    let provenance = bench.fetch(&wanted(BUCKET)).await.unwrap();
    bench.assert_installed(&files, &TOY_FILES);
    assert_eq!((provenance.source.as_str(), provenance.step), (BUCKET, Some(7)));
    // A prefix above finds the directory by its own.
    let bench = Bench::new(s3.settings("the-secret"));
    let provenance = bench.fetch(&wanted("s3://bucket")).await.unwrap();
    assert_eq!(provenance.directory.as_deref(), Some("models/d20"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_may_have_sums_which_hold() {
    let mut files = toy_model(1);
    files.insert("SHA256SUMS".to_owned(), Arc::new(sums(&files)));
    let s3 = S3::start(&files).await;
    let bench = Bench::new(s3.settings("the-secret"));
    bench.fetch(&wanted(BUCKET)).await.unwrap();
    bench.assert_installed(&files, &TOY_FILES);
    let weights = s3.directory.path().join("bucket/models/d20/model_000007.pt");
    std::fs::write(&weights, vec![0; 400_000]).unwrap();
    let bench = Bench::new(s3.settings("the-secret"));
    let error = bench.fetch(&wanted(BUCKET)).await.unwrap_err();
    assert_error!(error, Error::DigestMismatch { file, .. } if file == "model_000007.pt");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_for_a_while_is_asked_again() {
    let s3 = S3::start(&toy_model(1)).await;
    s3.faults.lock().unwrap().extend([503, 500, 429]);
    let bench = Bench::new(s3.settings("the-secret"));
    bench.fetch(&wanted(BUCKET)).await.unwrap();
    bench.assert_installed(&toy_model(1), &TOY_FILES);
    assert_eq!(bench.progress.snapshot().retries, 3);
    // Signatures are for one host: a redirect is none to follow.
    s3.faults.lock().unwrap().push(301);
    let bench = Bench::new(s3.settings("the-secret"));
    let error = bench.fetch(&wanted(BUCKET)).await.unwrap_err();
    assert_error!(error, Error::Status { host, status: 301, .. } if *host == s3.address);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_refuses_says_why() {
    let s3 = S3::start(&toy_model(1)).await;
    let error = Bench::new(s3.settings("wrong")).fetch(&wanted(BUCKET)).await.unwrap_err();
    assert!(!format!("{error:?}").contains("the-key"));
    assert_error!(error, Error::Status { status: 403, detail, .. } if detail.contains("SignatureDoesNotMatch"));
    let mut anonymous = s3.settings("");
    anonymous.s3.retain(|(name, _)| !name.contains("KEY"));
    assert_error!(
        Bench::new(anonymous).fetch(&wanted(BUCKET)).await.unwrap_err(),
        Error::Status { status: 403, .. }
    );
    let settings = s3.settings("the-secret");
    let error = Bench::new(settings.clone()).fetch(&wanted("s3://none/x")).await.unwrap_err();
    assert_error!(error, Error::Status { status: 404, detail, .. } if detail.contains("NoSuchBucket"));
    let error = Bench::new(settings).fetch(&wanted("s3://bucket/empty")).await.unwrap_err();
    assert_error!(error, Error::NoModel { .. });
}
