//! Some seconds of everything that the dashboards show: streams, some that repeat themselves, swaps under them, and
//! requests that are refused.

use std::thread;

use anyhow::{anyhow, bail};

use super::processes::{KEY, OTHER_MODEL, Samosa};
use crate::http;

/// Rounds of streams, with a swap there and back in each.
const ROUNDS: usize = 8;
/// What a round asks, more at once than the server runs.
const BENCH: [&str; 9] = [
    "bench",
    "--streams=10",
    "--requests=60",
    "--answer-tokens=96",
    "--prompt-tokens=96",
    "--shared-prefix=64",
    "--warm-up=0",
    "--temperature=0.8",
    "--json",
];
/// The same, alone and greedy: where few run, tokens are guessed.
const ALONE: [&str; 6] =
    ["bench", "--streams=1", "--requests=3", "--answer-tokens=256", "--warm-up=0", "--json"];

/// Makes the load; returns what it was, in words.
pub(super) fn run(samosa: &Samosa) -> anyhow::Result<String> {
    let mut refused = 0;
    for _ in 0..ROUNDS {
        thread::scope(|scope| {
            let bench = scope.spawn(|| samosa.client(&BENCH));
            let swaps = [OTHER_MODEL, "samosa-mini"].map(|tag| samosa.client(&["swap", tag]));
            let asked = refusals(samosa).map(|n| refused += n);
            let bench = bench.join().unwrap_or_else(|_| Err(anyhow!("the thread of the bench panicked")));
            bench.and(asked).and(swaps.into_iter().collect::<anyhow::Result<()>>())
        })?;
        samosa.client(&ALONE)?;
    }
    Ok(format!("{} requests, {} swaps, {refused} refusals", ROUNDS * 63, 2 * ROUNDS))
}

/// Requests that must be refused; returns how many.
fn refusals(samosa: &Samosa) -> anyhow::Result<usize> {
    let key = format!("X-Internal-API-Key: {KEY}\r\nContent-Type: application/json\r\n");
    let asks = [
        ("/generate", "Content-Type: application/json\r\n", "{}", 401),
        ("/generate", key.as_str(), "{\"messages\": []}", 400),
        ("/models/swap", key.as_str(), "{\"model_tag\": \"nothing\"}", 404),
        ("/nothing", key.as_str(), "", 404),
    ];
    for (path, headers, body, expected) in asks {
        let http::Reply { status, body: said } = http::post(samosa.address(), path, headers, body)?;
        // A swap may be running, which is said first.
        if status != expected && status != 409 {
            bail!("POST {path}: {status} instead of {expected}: {said}");
        }
    }
    Ok(asks.len())
}
