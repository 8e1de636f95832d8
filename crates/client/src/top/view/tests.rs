//! The screen on a terminal of the test's own, compared with copies that a person looked at. A build with `UPDATE` writes them
//! anew.

use std::path::Path;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::{Buffer, Cell};
use serde_json::{Value, json};

use super::*;

fn stats() -> Value {
    json!({
        "status": "ok", "ready": true, "current_model": "d20", "total_workers": 2, "available_workers": 1,
        "busy_workers": 1, "version": "0.1.0", "uptime_s": 11_523, "isa": "avx512-vnni", "threads": 4,
        "tokens_per_second": { "10s": 421.3, "60s": 380.0 },
        "requests": { "stop": 1200, "length": 31, "client_gone": 4, "slow_client": 0, "aborted": 0, "error": 0 },
        "refusals": { "unauthorized": 2, "queue_full": 17 },
        "running": 120, "queue": { "requests": 40, "tokens": 12_400 },
        "time_to_first_token_ms": { "p50": 31.2, "p95": 180.7, "p99": 12_345.6 },
        "inter_token_ms": { "p50": 2.41, "p95": 3.9, "p99": 25.0 },
        "kv_pages": { "used": 700, "total": 1000 },
        "prefix_cache": { "queries": 5000, "hits": 3150 },
        "speculation": { "drafted_tokens": 0, "accepted_tokens": 0 },
        "memory_bytes": { "resident": 2u64 << 30, "matrices": 1u64 << 30, "embeddings": 100 << 20, "kv_reserved": 1u64 << 30 },
        "memory_available_bytes": 14u64 << 30,
        "model": { "sha256": "1f3a5cc0d2e91f3a5cc0", "step": 650, "weight_format": "int8" },
        "limits": { "running_requests": 64, "queued_requests": 256, "queued_tokens": 524_288 },
        "swap": {
            "current": {
                "target_model": "d20-rl", "previous_model": "d20", "phase": "download", "outcome": "running", "started": 1000.0,
                "phase_seconds": { "resolve": 0.4 }, "download": { "bytes_done": 900 << 20, "bytes_total": 2000 << 20 },
            },
            "last": {
                "target_model": "d32", "previous_model": "d20", "phase": "verify", "outcome": "failed", "started": 700.0,
                "phase_seconds": { "resolve": 0.4, "verify": 1.5 }, "reason": "The file model_000650.pt has another hash.",
            },
        },
    })
}

fn screen(stats: Option<Value>) -> Screen {
    let mut history = StatsHistory::default();
    if let Some(stats) = &stats {
        for second in 0..200u64 {
            let mut earlier = stats.clone();
            earlier["uptime_s"] = json!(11_000 + second);
            earlier["tokens_per_second"] = json!({ "10s": 200 + second + 40 * (second % 7) });
            earlier["requests"]["stop"] = json!(1000 + second);
            earlier["refusals"] = json!({ "queue_full": second / 12 });
            history.add(second as f64, &Stats(earlier));
        }
    }
    Screen {
        url: "http://127.0.0.1:8003".to_owned(),
        stats: stats.map(Stats),
        history,
        trouble: None,
        polling: Polling { interval: Duration::from_secs(1), paused: false },
        help: false,
        palette: Palette::Coloured,
        now: 1012.0,
    }
}

fn draw(screen: &Screen, (width, height): (u16, u16)) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view(frame, screen)).unwrap();
    terminal.backend().buffer().clone()
}

fn text(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width);
    let rows = buffer.content.chunks(width).map(|row| row.iter().map(Cell::symbol).collect::<String>());
    rows.map(|row| row.trim_end().to_owned() + "\n").collect()
}

fn compare(name: &str, screen: &Screen, size: (u16, u16)) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/top/view/screens").join(name);
    let found = text(&draw(screen, size));
    if option_env!("UPDATE").is_some() {
        return std::fs::write(path, found).unwrap();
    }
    let wanted = std::fs::read_to_string(path).unwrap();
    assert!(found == wanted, "{name} should be\n{wanted}\nand is\n{found}");
}

#[test]
fn everything_is_there_at_three_sizes() {
    let screen = screen(Some(stats()));
    compare("120x40.txt", &screen, (120, 40));
    compare("80x24.txt", &screen, (80, 24));
    compare("46x14.txt", &screen, (46, 14));
}

#[test]
fn other_moments_look_as_they_should() {
    let mut gone = screen(Some(stats()));
    gone.trouble = Some((
        Trouble { missing: "answer", why: "nothing listens there".to_owned() },
        Duration::from_secs(12),
    ));
    compare("gone.txt", &gone, (80, 24));
    let mut first = screen(None);
    compare("first.txt", &first, (60, 6));
    first.trouble = Some((
        Trouble {
            missing: "figures",
            why: "the key is missing or wrong (INTERNAL_API_KEY): Invalid internal API key".to_owned(),
        },
        Duration::ZERO,
    ));
    compare("denied.txt", &first, (60, 6));
    let mut helping =
        screen(Some(json!({ "status": "loading", "reason": "the first model is being loaded" })));
    (helping.polling.paused, helping.help) = (true, true);
    compare("help.txt", &helping, (80, 24));
}

#[test]
fn no_size_and_no_answer_breaks_it() {
    let odd = json!({ "requests": { "a": 1 }, "swap": { "last": { "target_model": "x".repeat(500) } }, "current_model": "m".repeat(300) });
    for stats in [None, Some(json!({})), Some(odd), Some(stats())] {
        let mut screen = screen(stats);
        for help in [false, true] {
            screen.help = help;
            for width in (1..100).step_by(7) {
                for height in (1..45).step_by(2) {
                    draw(&screen, (width, height));
                }
            }
        }
    }
}

#[test]
fn colours_say_what_words_say_and_none_are_used_where_none_are_wanted() {
    let has_colours = |buffer: &Buffer| {
        buffer.content.iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
    };
    let mut screen = screen(Some(stats()));
    let coloured = draw(&screen, (80, 24));
    assert_eq!((coloured.content[0].symbol(), coloured.content[0].fg), ("●", Color::Green));
    // 120 of 128 streams run.
    let full = coloured.content.iter().filter(|cell| cell.symbol() == "█" && cell.fg == Color::Red);
    assert!(full.count() > 3);
    screen.trouble = Some((
        Trouble { missing: "answer", why: "nothing listens there".to_owned() },
        Duration::from_secs(12),
    ));
    let stale = draw(&screen, (80, 24));
    assert!(
        !stale.content.iter().any(|cell| [Color::Green, Color::Cyan].contains(&cell.fg)),
        "all of it is grey"
    );
    screen.palette = Palette::Monochrome;
    assert!(has_colours(&coloured) && !has_colours(&draw(&screen, (80, 24))));
}
