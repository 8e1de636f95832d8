//! The blocks below the heading, and which of them fit.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph, RenderDirection, Sparkline, SparklineBar};

use super::super::history::{ENDED, REFUSED};
use super::super::stats::{Meter, Stats, Swap};
use super::super::words::{count, figure, ms, percent, rate, time};
use super::{Screen, Tone};

/// From this width on blocks stand side by side.
const WIDE: u16 = 76;
/// Columns between them.
const GAP: u16 = 2;
/// Columns of a name before its value.
const NAME: usize = 14;
/// Columns of a meter's numbers, and the fewest of its bar.
const METER_TEXT: usize = 18;
const METER_BAR: usize = 6;
/// The tallest curve.
const MAX_CURVE: u16 = 16;
/// Rows of the curve with its title, if others need the rest.
const MIN_CURVE: u16 = 2;
/// The fewest rows, its title included, that a block may be cut to.
const WORTH_CUTTING: u16 = 4;
/// Reasons to refuse that are listed.
const MAX_REFUSED: usize = 6;
/// Lines of a swap's words.
const MAX_WRAPPED: usize = 3;
/// Shares from which a meter warns, and alarms.
const WARNS: f64 = 0.75;
const ALARMS: f64 = 0.9;

/// A block below the curve.
struct Panel {
    title: &'static str,
    /// Names of the columns of figures.
    columns: String,
    lines: Vec<Line<'static>>,
}

/// Chooses the blocks that fit, and draws them.
pub(super) fn blocks(frame: &mut Frame<'_>, screen: &Screen, stats: &Stats, area: Rect) {
    let per_row = if area.width >= WIDE { 2 } else { 1 };
    let width = usize::from(area.width.saturating_sub(GAP * (per_row - 1)) / per_row);
    let panel = |title, columns, lines| Panel { title, columns, lines };
    let meters = stats.meters().iter().map(|meter| meter_line(screen, meter, width)).collect();
    let panels = [
        panel("Load", String::new(), meters),
        panel(
            "Latency, ms",
            format!("{:>8}{:>9}{:>9} ", "p50", "p95", "p99"),
            latency_lines(screen, stats, width),
        ),
        panel("Requests", format!("{:>9}{:>8}", "a minute", "total"), request_lines(screen, stats, width)),
        panel("Inside", String::new(), inside_lines(screen, stats, width)),
    ];
    let rows: Vec<&[Panel]> = panels.chunks(per_row.into()).collect();
    let tallest = |row: &&[Panel]| row.iter().map(|panel| 1 + panel.lines.len() as u16).max().unwrap_or(0);
    let mut left = area.height;
    let mut heights = Vec::new();
    // The curve shrinks to one line for the others, and takes what they leave.
    for height in std::iter::once(MIN_CURVE).chain(rows.iter().map(tallest)) {
        let height = if height <= left || left >= WORTH_CUTTING { height.min(left) } else { 0 };
        left -= height;
        heights.push(height);
    }
    if heights[0] > 0 {
        heights[0] = (heights[0] + left).min(MAX_CURVE);
    }
    let areas = Layout::vertical(heights.iter().map(|height| Constraint::Length(*height))).split(area);
    if areas[0].height > 0 {
        curve(frame, screen, stats, areas[0]);
    }
    for (row, area) in rows.iter().zip(&areas[1..]).filter(|(_, area)| area.height > 0) {
        let columns = Layout::horizontal(vec![Constraint::Fill(1); row.len()]).spacing(GAP).split(*area);
        for (panel, area) in row.iter().zip(columns.iter()) {
            draw(frame, screen, panel, *area);
        }
    }
}

fn draw(frame: &mut Frame<'_>, screen: &Screen, panel: &Panel, area: Rect) {
    let mut block = headed(screen, title(screen, panel.title).into());
    if !panel.columns.is_empty() {
        let columns = Span::styled(panel.columns.clone(), screen.style(Tone::Quiet));
        block = block.title(Line::from(columns).alignment(Alignment::Right));
    }
    frame.render_widget(Paragraph::new(panel.lines.clone()).block(block), area);
}

/// A line with a title in it.
fn headed(screen: &Screen, title: Line<'static>) -> Block<'static> {
    Block::new().borders(Borders::TOP).border_style(screen.style(Tone::Quiet)).title(title)
}

fn title(screen: &Screen, text: &str) -> Span<'static> {
    Span::styled(format!(" {text} "), screen.style(Tone::Title))
}

/// Tokens a second: now, over a minute, and as a curve.
fn curve(frame: &mut Frame<'_>, screen: &Screen, stats: &Stats, area: Rect) {
    let curve = screen.history.curve(area.width.into(), screen.polling.interval);
    let peak = curve.iter().flatten().max().copied().unwrap_or(0);
    let [now, minute] = stats.tokens_per_second().map(|number| figure(number, rate));
    let bold = Style::new().fg(Color::Reset).add_modifier(Modifier::BOLD);
    let now = Span::styled(format!("{now} "), bold);
    let mut block = headed(screen, Line::from(vec![title(screen, "Tokens/s"), now]));
    let more = format!(" {minute} over a minute, curve of 5 min up to {} ", count(peak as f64));
    if usize::from(area.width) > more.chars().count() + 24 {
        let more = Line::from(Span::styled(more, screen.style(Tone::Quiet)));
        block = block.title(more.alignment(Alignment::Right));
    }
    let bars: Vec<SparklineBar> = curve.into_iter().rev().map(SparklineBar::from).collect();
    let sparkline = Sparkline::default()
        .block(block)
        .data(bars)
        .max(peak.max(1))
        .direction(RenderDirection::RightToLeft)
        .absent_value_symbol(" ")
        .style(screen.style(Tone::Good));
    frame.render_widget(sparkline, area);
}

/// `streams        ████░░░░░░       12 of 64`
fn meter_line(screen: &Screen, meter: &Meter, width: usize) -> Line<'static> {
    let name = Span::raw(format!("{:NAME$}", meter.name));
    let room = width.saturating_sub(NAME + METER_TEXT + 1);
    match meter.share {
        Some(share) if room >= METER_BAR => {
            let [full, empty] = bar(share, room);
            let tone = match share {
                share if share >= ALARMS => Tone::Alarm,
                share if share >= WARNS => Tone::Warning,
                _ => Tone::Good,
            };
            // Reversed blocks would look empty.
            let style = screen.style(tone).remove_modifier(Modifier::REVERSED);
            Line::from(vec![
                name,
                Span::styled(full, style),
                Span::styled(empty, screen.style(Tone::Quiet)),
                Span::raw(format!(" {:>METER_TEXT$}", meter.text)),
            ])
        }
        _ => Line::from(vec![name, Span::raw(format!("{:>1$}", meter.text, width.saturating_sub(NAME)))]),
    }
}

/// A bar of `width` columns; what is not nothing shows.
fn bar(share: f64, width: usize) -> [String; 2] {
    let full = (share * width as f64).round() as usize;
    let full = if share > 0.0 { full.max(1).min(width) } else { 0 };
    ["█".repeat(full), "░".repeat(width - full)]
}

fn latency_lines(screen: &Screen, stats: &Stats, width: usize) -> Vec<Line<'static>> {
    let mut lines: Vec<_> = stats
        .latencies()
        .iter()
        .map(|(name, values)| {
            let [p50, p95, p99] = values.map(|value| figure(value, ms));
            let values = format!("{p50:>8} {p95:>8} {p99:>8} ");
            row(name, Span::raw(values), width)
        })
        .collect();
    let quiet = screen.style(Tone::Quiet);
    for (name, value) in stats.facts() {
        let style = if value.starts_with(|c: char| c.is_ascii_digit()) { Style::new() } else { quiet };
        lines.push(row(name, Span::styled(format!("{value} "), style), width));
    }
    lines
}

/// What became of requests: how streams ended, and what was refused most.
fn request_lines(screen: &Screen, stats: &Stats, width: usize) -> Vec<Line<'static>> {
    let line = |pointer: &str, label: &str, (name, total): &(String, f64)| {
        let lately = screen.history.per_minute(pointer, name);
        let figures = format!("{:>9}{:>8}", figure(lately, rate), count(*total));
        let is_good = ["stop", "length"].contains(&name.as_str());
        // Only what goes wrong now shall stand out.
        let tone = match lately {
            _ if *total == 0.0 => Tone::Quiet,
            Some(lately) if lately > 0.0 && !is_good => Tone::Warning,
            _ => Tone::Plain,
        };
        let room = width.saturating_sub(figures.chars().count());
        let name = format!("{label}{}", name.replace('_', " "));
        let name: String = name.chars().take(room.saturating_sub(1)).collect();
        Line::from(Span::styled(format!("{name:room$}{figures}"), screen.style(tone)))
    };
    let mut refused = stats.counts(REFUSED);
    refused.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let ended = stats.counts(ENDED);
    let ended = ended.iter().map(|count| line(ENDED, "", count));
    ended.chain(refused.iter().take(MAX_REFUSED).map(|count| line(REFUSED, "refused: ", count))).collect()
}

fn inside_lines(screen: &Screen, stats: &Stats, width: usize) -> Vec<Line<'static>> {
    let mut lines: Vec<_> = stats
        .inside()
        .iter()
        .map(|(name, value)| left(name, value, screen.style(Tone::Plain), width))
        .collect();
    if let Some(swap) = stats.swap() {
        lines.push(left("swap", &swap.what, screen.style(Tone::Title), width));
        match &swap.download {
            Some((share, text)) => {
                let [full, empty] =
                    bar(*share, width.saturating_sub(NAME + text.chars().count() + 1).min(20));
                lines.push(Line::from(vec![
                    Span::raw(format!("{:NAME$}", "  download")),
                    Span::styled(full, screen.style(Tone::Good)),
                    Span::styled(empty, screen.style(Tone::Quiet)),
                    Span::raw(format!(" {text}")),
                ]));
                wrapped(&mut lines, &format!("{}, {}", percent(*share), swap.state), Style::new(), width);
            }
            None => wrapped(&mut lines, &swap.state, Style::new(), width),
        }
    }
    if let Some(swap) = stats.last_swap() {
        let tone = if swap.has_failed { Tone::Warning } else { Tone::Plain };
        let style = screen.style(tone);
        lines.push(left("last swap", &format!("{}{}", swap.what, ago(screen, &swap)), style, width));
        wrapped(&mut lines, &swap.state, style, width);
    }
    lines
}

/// `, 5 min 3 s ago`
fn ago(screen: &Screen, swap: &Swap) -> String {
    let since = swap.started.map(|started| screen.now - started).filter(|since| *since >= 0.0);
    since.map_or(String::new(), |since| format!(", {} ago", time(since)))
}

/// Adds a text below a value, on a few lines.
fn wrapped(lines: &mut Vec<Line<'static>>, text: &str, style: Style, width: usize) {
    let mut parts = crate::text::wrap(text, width.saturating_sub(NAME).max(1));
    if parts.len() > MAX_WRAPPED {
        parts.truncate(MAX_WRAPPED);
        parts[MAX_WRAPPED - 1].push_str(" …");
    }
    lines.extend(parts.iter().map(|part| left("", part, style, width)));
}

/// A name and a value at the right end.
fn row(name: &str, value: Span<'static>, width: usize) -> Line<'static> {
    let room = width.saturating_sub(value.width());
    Line::from(vec![Span::raw(format!("{name:room$}")), value])
}

/// A name and a value right behind it, cut where the line ends.
fn left(name: &str, value: &str, style: Style, width: usize) -> Line<'static> {
    let room = width.saturating_sub(NAME);
    let cut: String = if value.chars().count() > room {
        value.chars().take(room.saturating_sub(1)).chain(['…']).collect()
    } else {
        value.to_owned()
    };
    Line::from(vec![Span::raw(format!("{name:NAME$}")), Span::styled(cut, style)])
}
