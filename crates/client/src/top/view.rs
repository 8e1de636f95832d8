//! The screen: a pure function of what is known. Blocks that do not fit are left out, the least important first.

mod blocks;

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Margin, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Padding, Paragraph, Wrap};

use self::blocks::blocks;
use super::Trouble;
use super::history::StatsHistory;
use super::stats::Stats;
use super::words::time;
use crate::text::Palette;

/// All that is shown.
pub(super) struct Screen {
    pub(super) url: String,
    pub(super) stats: Option<Stats>,
    pub(super) history: StatsHistory,
    /// Why there are no new figures, and for how long.
    pub(super) trouble: Option<(Trouble, Duration)>,
    pub(super) polling: Polling,
    /// Whether the keys are explained.
    pub(super) help: bool,
    pub(super) palette: Palette,
    /// Seconds since 1970.
    pub(super) now: f64,
}

/// How often the server is asked, as the keys have chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Polling {
    pub(super) interval: Duration,
    pub(super) paused: bool,
}

/// What a part means.
#[derive(Clone, Copy)]
enum Tone {
    Plain,
    Quiet,
    Title,
    Good,
    Warning,
    Alarm,
}

impl Screen {
    fn style(&self, tone: Tone) -> Style {
        let style = Style::new();
        let coloured = |colour, plain: Modifier| match self.palette {
            Palette::Coloured => style.fg(colour),
            Palette::Monochrome => style.add_modifier(plain),
        };
        match tone {
            Tone::Plain => style,
            Tone::Quiet => coloured(Color::DarkGray, Modifier::DIM),
            Tone::Title => coloured(Color::Cyan, Modifier::BOLD),
            Tone::Good => coloured(Color::Green, Modifier::empty()),
            Tone::Warning => coloured(Color::Yellow, Modifier::BOLD).add_modifier(Modifier::BOLD),
            Tone::Alarm => coloured(Color::Red, Modifier::REVERSED).add_modifier(Modifier::BOLD),
        }
    }
}

/// Draws the screen.
pub(super) fn view(frame: &mut Frame<'_>, screen: &Screen) {
    let area = frame.area();
    let notes = screen.stats.as_ref().map_or_else(Vec::new, |stats| notes(screen, stats));
    let foot = u16::from(area.height >= 6);
    let [head, below, body, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(notes.len() as u16),
        Constraint::Min(0),
        Constraint::Length(foot),
    ])
    .areas(area);
    match &screen.stats {
        Some(stats) => {
            frame.render_widget(Paragraph::new(heading(screen, stats, head.width)), head);
            frame.render_widget(Paragraph::new(notes), below);
            blocks(frame, screen, stats, body);
            if screen.trouble.is_some() {
                stale(frame, screen, head);
                stale(frame, screen, body);
            }
        }
        None => {
            frame.render_widget(Paragraph::new(waiting(screen)).wrap(Wrap { trim: true }), head.union(body));
        }
    }
    frame.render_widget(Paragraph::new(keys_line(screen, keys.width)), keys);
    if screen.help {
        help(frame, screen, area);
    }
}

/// What is known before the first answer.
fn waiting(screen: &Screen) -> Vec<Line<'static>> {
    let mut lines = vec![Line::from(format!("{} …", screen.url))];
    if let Some((trouble, _)) = &screen.trouble {
        let again = format!("Asking again every {}.", interval(screen.polling.interval));
        lines.push(Line::from(Span::styled(trouble.why.clone(), screen.style(Tone::Alarm))));
        lines.push(Line::from(Span::styled(again, screen.style(Tone::Quiet))));
    }
    lines
}

/// What is wrong, a line each.
fn notes(screen: &Screen, stats: &Stats) -> Vec<Line<'static>> {
    let note = |text: String, tone| Line::from(Span::styled(text, screen.style(tone)));
    match (&screen.trouble, stats.reason()) {
        (Some((Trouble { missing, why }, since)), _) => {
            let since = time(since.as_secs_f64());
            vec![note(format!("no {missing} for {since}: {why}"), Tone::Alarm)]
        }
        (None, Some(reason)) => vec![note(reason, Tone::Warning)],
        (None, None) => Vec::new(),
    }
}

/// Greys what is no longer so.
fn stale(frame: &mut Frame<'_>, screen: &Screen, area: Rect) {
    let quiet = screen.style(Tone::Quiet).remove_modifier(Modifier::BOLD | Modifier::REVERSED);
    frame.buffer_mut().set_style(area, quiet);
}

/// `● ok  d20 1f3a5cc0d2e9 · int8          up 3 h · 0.1.0 · avx2 × 8`
fn heading(screen: &Screen, stats: &Stats, width: u16) -> Line<'static> {
    let status = stats.status();
    let tone = match status.as_str() {
        "ok" => Tone::Good,
        "loading" | "draining" => Tone::Warning,
        _ => Tone::Alarm,
    };
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let quiet = screen.style(Tone::Quiet);
    let status = if screen.trouble.is_some() { format!("○ was {status}") } else { format!("● {status}") };
    let mut spans = vec![
        Span::styled(status, screen.style(tone).add_modifier(Modifier::BOLD)),
        Span::raw("  "),
        Span::styled(stats.model(), bold),
    ];
    let used = |spans: &[Span<'_>]| spans.iter().map(Span::width).sum::<usize>();
    let (mut model, mut server) = (stats.about_model(), stats.about_server());
    let length = |parts: &[String]| parts.iter().map(|part| part.chars().count() + 3).sum::<usize>();
    // Details go before what tells one server from another.
    while used(&spans) + length(&model) + length(&server) > width.into() && model.len() + server.len() > 0 {
        if model.len() > 1 || server.is_empty() {
            model.pop()
        } else {
            server.pop()
        };
    }
    for part in model {
        spans.push(Span::styled(format!(" · {part}"), quiet));
    }
    let server = server.join(" · ");
    let gap = usize::from(width).saturating_sub(used(&spans) + server.chars().count());
    spans.push(Span::raw(" ".repeat(gap)));
    spans.push(Span::raw(server));
    Line::from(spans)
}

/// The keys, as many as fit, and the server's place.
fn keys_line(screen: &Screen, width: u16) -> Line<'static> {
    let quiet = screen.style(Tone::Quiet);
    let state = if screen.polling.paused {
        Span::styled("paused", screen.style(Tone::Warning))
    } else {
        Span::styled(format!("every {}", interval(screen.polling.interval)), quiet)
    };
    let pause = if screen.polling.paused { "p go on" } else { "p pause" };
    let mut room = usize::from(width).saturating_sub(state.width());
    let mut keys = String::new();
    for key in ["q quit", "? help", pause, "+/- interval"].map(|key| format!(" · {key}")) {
        if key.chars().count() <= room {
            room -= key.chars().count();
            keys.push_str(&key);
        }
    }
    let url = if room > screen.url.len() { format!("{:>room$}", screen.url) } else { String::new() };
    Line::from(vec![state, Span::styled(keys + &url, quiet)])
}

/// `500 ms` or `2 s`.
fn interval(interval: Duration) -> String {
    match interval.as_millis() {
        ms if ms % 1000 == 0 => format!("{} s", ms / 1000),
        ms => format!("{ms} ms"),
    }
}

const HELP: &str = "\
q        quit
p        pause, and go on
+ -      ask less often, more often
?        this page, and back

streams        answers that are being written
queue          requests that wait for their turn
KV pages       memory for keys and values in use
memory         this process, of what it could have
first token    from the request to its first token
each next      between two tokens of a stream
prefix hits    prompt tokens that were not computed anew
guesses kept   tokens guessed ahead that were right";

fn help(frame: &mut Frame<'_>, screen: &Screen, area: Rect) {
    let (width, height) = (60.min(area.width), (HELP.lines().count() as u16 + 2).min(area.height));
    let place = area.inner(Margin::new((area.width - width) / 2, (area.height - height) / 2));
    let place = Rect { width, height, ..place };
    let block = Block::bordered()
        .title(Span::styled(" samosa top ", screen.style(Tone::Title)))
        .padding(Padding::horizontal(1));
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(HELP).block(block), place);
}

#[cfg(test)]
mod tests;
