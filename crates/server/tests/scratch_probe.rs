//! x
#![expect(clippy::unwrap_used, reason = "a test may fail")]
mod support;
#[tokio::test]
async fn probe() {
    for isa in engine::Isa::available() {
        let s = support::long_storage();
        let server =
            support::Server::start(server::Options { isa, ..support::options_in(s.path(), "long") }).await;
        for p in ["Hello!", "Thank you!"] {
            let t = server.told(&support::ask(p, 0.0, 4096)).await;
            println!("{} {p}: {}", isa.name(), t.last);
        }
    }
}
