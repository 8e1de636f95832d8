//! The terminal: answers and keys come in, the screen is drawn.

use std::io::IsTerminal;
use std::mem::ManuallyDrop;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::Trouble;
use super::history::StatsHistory;
use super::stats::Stats;
use super::view::{Polling, Screen, view};
use crate::api::ApiClient;
use crate::now;
use crate::text::Palette;

/// How long a key is waited for before answers and the clock are looked at again.
const TICK: Duration = Duration::from_millis(100);
/// How often is looked whether there still is a terminal.
const LOOK_AT_TERMINAL: Duration = Duration::from_secs(1);
/// How long the screen has to end by itself.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Answers that may wait to be shown.
const MAX_NEWS: usize = 8;
/// Milliseconds between questions that + and - choose from.
const INTERVALS: [u64; 9] = [100, 200, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000];

/// What the thread that asks has to say.
enum News {
    Answer(Result<Value, Trouble>),
    /// A signal ended it.
    Stop,
}

/// Shows the screen until a key or a signal ends it.
pub(super) fn run(client: ApiClient, interval: Duration, palette: Palette) -> Result<()> {
    let polling = Polling { interval, paused: false };
    let screen = Screen {
        url: client.url.shown(""),
        stats: None,
        history: StatsHistory::default(),
        trouble: None,
        polling,
        help: false,
        palette,
        now: 0.0,
    };
    let (tell, news) = sync_channel(MAX_NEWS);
    let (pace, heard) = watch::channel(polling);
    thread::Builder::new()
        .name("stats".to_owned())
        .spawn(move || crate::block_on(ask_until_stopped(client, &tell, heard)))
        .context("a thread could not be started")?;
    // It is put back as it was after a panic too.
    let terminal = ratatui::try_init().context("the terminal cannot be used")?;
    // Dropped, it would print to stderr that it cannot show the cursor, and panic where that is the lost terminal too.
    let mut terminal = ManuallyDrop::new(terminal);
    let shown = show(&mut terminal, screen, &news, &pace);
    let cursor = terminal.show_cursor();
    let restored = ratatui::try_restore().and(cursor);
    shown.and(restored.context("the terminal could not be put back"))
}

/// Asks at the pace that is set, until nobody listens, a signal comes, or the terminal is gone.
async fn ask_until_stopped(client: ApiClient, tell: &SyncSender<News>, pace: watch::Receiver<Polling>) {
    let signals = [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt()];
    let Ok(mut signals) = signals.into_iter().map(signal).collect::<Result<Vec<_>, _>>() else { return };
    let [terminate, hangup, interrupt] = signals.as_mut_slice() else { return };
    tokio::select! {
        () = ask_on(client, tell, pace) => return,
        () = hung_up() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
        _ = interrupt.recv() => {}
    }
    let _ = tell.try_send(News::Stop);
    // Whoever waits for keys of a terminal that is gone waits for ever, and on a busy core.
    tokio::time::sleep(LAST_WORDS).await;
    let _ = ratatui::try_restore();
    std::process::exit(1);
}

/// Returns once there is no terminal any more; not every one of them says so with a signal.
async fn hung_up() {
    while std::io::stdout().is_terminal() {
        tokio::time::sleep(LOOK_AT_TERMINAL).await;
    }
}

async fn ask_on(client: ApiClient, tell: &SyncSender<News>, mut pace: watch::Receiver<Polling>) {
    loop {
        let Polling { interval, paused } = *pace.borrow_and_update();
        let begun = now();
        if !paused {
            let answer = super::ask(&client).await;
            if matches!(tell.try_send(News::Answer(answer)), Err(TrySendError::Disconnected(_))) {
                return;
            }
        }
        let rest = if paused { Duration::MAX } else { interval.saturating_sub(begun.elapsed()) };
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            changed = pace.changed() => if changed.is_err() { return },
        }
    }
}

/// The screen's life.
fn show(
    terminal: &mut DefaultTerminal,
    mut screen: Screen,
    news: &Receiver<News>,
    pace: &watch::Sender<Polling>,
) -> Result<()> {
    let begun = now();
    let mut answered = begun;
    loop {
        loop {
            match news.try_recv() {
                Ok(News::Answer(answer)) => take(&mut screen, answer, begun, &mut answered),
                Ok(News::Stop) => return Ok(()),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => bail!("the thread that asks the server broke"),
            }
        }
        if let Some((_, silence)) = &mut screen.trouble {
            *silence = answered.elapsed();
        }
        screen.now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        terminal.draw(|frame| view(frame, &screen)).context("the terminal cannot be written to")?;
        if event::poll(TICK)?
            && let Event::Key(key) = event::read()?
            && press(&mut screen, key, pace).is_break()
        {
            return Ok(());
        }
    }
}

/// Takes an answer in. Figures that were there stay when none comes.
fn take(screen: &mut Screen, answer: Result<Value, Trouble>, begun: Instant, answered: &mut Instant) {
    match answer {
        Ok(stats) => {
            let stats = Stats(stats);
            screen.history.add(begun.elapsed().as_secs_f64(), &stats);
            screen.stats = Some(stats);
            screen.trouble = None;
            *answered = now();
        }
        Err(why) => screen.trouble = Some((why, answered.elapsed())),
    }
}

/// Does what a key says.
fn press(screen: &mut Screen, key: KeyEvent, pace: &watch::Sender<Polling>) -> ControlFlow<()> {
    if !key.is_press() {
        return ControlFlow::Continue(());
    }
    let held = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c') if held => return ControlFlow::Break(()),
        KeyCode::Esc if screen.help => screen.help = false,
        KeyCode::Char('q') | KeyCode::Esc => return ControlFlow::Break(()),
        KeyCode::Char('?' | 'h') => screen.help = !screen.help,
        KeyCode::Char('p' | ' ') => screen.polling.paused = !screen.polling.paused,
        KeyCode::Char('+' | '=') => screen.polling.interval = longer(screen.polling.interval),
        KeyCode::Char('-') => screen.polling.interval = shorter(screen.polling.interval),
        _ => return ControlFlow::Continue(()),
    }
    pace.send_replace(screen.polling);
    ControlFlow::Continue(())
}

fn longer(interval: Duration) -> Duration {
    let mut choices = INTERVALS.into_iter().map(Duration::from_millis);
    choices.find(|choice| *choice > interval).unwrap_or(interval)
}

fn shorter(interval: Duration) -> Duration {
    let mut choices = INTERVALS.into_iter().rev().map(Duration::from_millis);
    choices.find(|choice| *choice < interval).unwrap_or(interval)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn screen() -> Screen {
        Screen {
            url: String::new(),
            stats: None,
            history: StatsHistory::default(),
            trouble: None,
            polling: Polling { interval: Duration::from_secs(1), paused: false },
            help: false,
            palette: Palette::Monochrome,
            now: 0.0,
        }
    }

    #[test]
    fn keys_do_what_the_help_says() {
        let mut screen = screen();
        let (pace, heard) = watch::channel(screen.polling);
        let mut key = |code, modifiers| press(&mut screen, KeyEvent::new(code, modifiers), &pace);
        let mut plain = |c| key(KeyCode::Char(c), KeyModifiers::NONE);
        assert_eq!(['x', '+', '-', '-', 'p'].map(&mut plain), [ControlFlow::Continue(()); 5]);
        let now = *heard.borrow();
        assert_eq!((now.interval, now.paused), (Duration::from_millis(500), true));
        assert_eq!((plain('?'), plain('q')), (ControlFlow::Continue(()), ControlFlow::Break(())));
        assert_eq!(
            key(KeyCode::Esc, KeyModifiers::NONE),
            ControlFlow::Continue(()),
            "it closes the help first"
        );
        assert_eq!(key(KeyCode::Esc, KeyModifiers::NONE), ControlFlow::Break(()));
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::CONTROL), ControlFlow::Break(()));
        assert_eq!(
            (longer(Duration::from_mins(1)), shorter(Duration::from_millis(100))),
            (Duration::from_mins(1), Duration::from_millis(100))
        );
    }

    #[test]
    fn figures_stay_when_no_answer_comes() {
        let (mut screen, begun) = (screen(), now());
        let mut answered = begun;
        take(
            &mut screen,
            Err(Trouble { missing: "answer", why: "nothing listens there".to_owned() }),
            begun,
            &mut answered,
        );
        assert!(screen.stats.is_none() && screen.trouble.is_some());
        take(&mut screen, Ok(json!({ "status": "ok" })), begun, &mut answered);
        assert!(screen.stats.is_some() && screen.trouble.is_none());
        take(
            &mut screen,
            Err(Trouble { missing: "answer", why: "nothing listens there".to_owned() }),
            begun,
            &mut answered,
        );
        assert!(screen.stats.is_some() && screen.trouble.is_some());
    }
}
