//! The blocks below the heading, and which of them fit.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph, RenderDirection, Sparkline, SparklineBar};

use super::super::history::{ENDED, REFUSED};
use super::super::stats::{Failed, Meter, Stats, Swap};
use super::super::words::{count, ms, percent, rate, time};
use super::{Colours, Screen, Tone};

/// From this width on blocks stand side by side.
const WIDE: u16 = 76;
/// Columns of a name before its value.
const NAME: usize = 14;
/// Columns of a meter's numbers, and the fewest of its bar.
const METER_TEXT: usize = 18;
const METER_BAR: usize = 6;
/// The tallest curve.
const MAX_CURVE: u16 = 16;
/// The fewest rows, its title included, that a block may be cut to.
const WORTH_CUTTING: u16 = 4;
/// Reasons to refuse that are listed.
const MAX_REFUSED: usize = 6;
/// Lines of a swap's words.
const MAX_WRAPPED: usize = 3;
/// Shares from which a meter warns, and alarms.
const WARNS: f64 = 0.75;
const ALARMS: f64 = 0.9;

/// A block: its rows are asked for once its width is known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Curve,
    Load,
    Latency,
    Requests,
    Inside,
}

/// Chooses the blocks that fit, and draws them.
pub(super) fn blocks(frame: &mut Frame<'_>, screen: &Screen, stats: &Stats, area: Rect) {
    let rows: &[&[Part]] = if area.width >= WIDE {
        &[&[Part::Curve], &[Part::Load, Part::Latency], &[Part::Requests, Part::Inside]]
    } else {
        &[&[Part::Curve], &[Part::Load], &[Part::Latency], &[Part::Requests], &[Part::Inside]]
    };
    let column = area.width / if area.width >= WIDE { 2 } else { 1 };
    let mut left = area.height;
    let mut heights = Vec::new();
    // The curve shrinks to one line for the others, and takes what they leave.
    for row in rows {
        let height = row.iter().map(|part| part_height(*part, screen, stats, column)).max().unwrap_or(0);
        let height = if height <= left || left >= WORTH_CUTTING { height.min(left) } else { 0 };
        left -= height;
        heights.push(height);
    }
    if heights[0] > 0 {
        heights[0] = (heights[0] + left).min(MAX_CURVE);
    }
    let areas = Layout::vertical(heights.iter().map(|height| Constraint::Length(*height))).split(area);
    for (row, area) in rows.iter().zip(areas.iter()).filter(|(_, area)| area.height > 0) {
        let columns = Layout::horizontal(vec![Constraint::Fill(1); row.len()]).spacing(2).split(*area);
        for (part, area) in row.iter().zip(columns.iter()) {
            draw(frame, (screen, stats), *part, *area);
        }
    }
}

/// Rows of a block, its title included.
fn part_height(part: Part, screen: &Screen, stats: &Stats, width: u16) -> u16 {
    match part {
        Part::Curve => 2,
        part => 1 + part_lines(part, screen, stats, width).len() as u16,
    }
}

fn draw(frame: &mut Frame<'_>, (screen, stats): (&Screen, &Stats), part: Part, area: Rect) {
    let colours = screen.colours;
    let title =
        |text: &'static str| Line::from(Span::styled(format!(" {text} "), colours.style(Tone::Title)));
    let block = Block::new().borders(Borders::TOP).border_style(colours.style(Tone::Quiet));
    let head =
        |text: String| Line::from(Span::styled(text, colours.style(Tone::Quiet))).alignment(Alignment::Right);
    let block = match part {
        Part::Curve => return curve(frame, (screen, stats), block, area),
        Part::Load => block.title(title("Load")),
        Part::Latency => {
            block.title(title("Latency, ms")).title(head(format!("{:>8}{:>9}{:>9} ", "p50", "p95", "p99")))
        }
        Part::Requests => {
            block.title(title("Requests")).title(head(format!("{:>9}{:>8}", "a minute", "total")))
        }
        Part::Inside => block.title(title("Inside")),
    };
    let lines = part_lines(part, screen, stats, area.width);
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn part_lines(part: Part, screen: &Screen, stats: &Stats, width: u16) -> Vec<Line<'static>> {
    let width = usize::from(width);
    match part {
        Part::Curve => Vec::new(),
        Part::Load => stats.meters().iter().map(|meter| meter_line(screen.colours, meter, width)).collect(),
        Part::Latency => latency_lines(screen, stats, width),
        Part::Requests => request_lines(screen, stats, width),
        Part::Inside => inside_lines(screen, stats, width),
    }
}

/// Tokens a second: now, over a minute, and as a curve.
fn curve(frame: &mut Frame<'_>, (screen, stats): (&Screen, &Stats), block: Block<'_>, area: Rect) {
    let colours = screen.colours;
    let curve = screen.history.curve(area.width.into(), screen.interval);
    let peak = curve.iter().flatten().max().copied().unwrap_or(0);
    let figure = |pointer: &str| stats.number(pointer).map_or("–".to_owned(), rate);
    let title = Line::from(vec![
        Span::styled(" Tokens/s ", colours.style(Tone::Title)),
        Span::styled(
            format!("{} ", figure("/tokens_per_second/10s")),
            Style::new().fg(Color::Reset).add_modifier(Modifier::BOLD),
        ),
    ]);
    let more = format!(
        " {} over a minute, curve of 5 min up to {} ",
        figure("/tokens_per_second/60s"),
        count(peak as f64)
    );
    let block = block.title(title);
    let block = if usize::from(area.width) > more.chars().count() + 24 {
        block.title(Line::from(Span::styled(more, colours.style(Tone::Quiet))).alignment(Alignment::Right))
    } else {
        block
    };
    let bars: Vec<SparklineBar> = curve.into_iter().rev().map(SparklineBar::from).collect();
    let sparkline = Sparkline::default()
        .block(block)
        .data(bars)
        .max(peak.max(1))
        .direction(RenderDirection::RightToLeft)
        .absent_value_symbol(" ")
        .style(colours.style(Tone::Good));
    frame.render_widget(sparkline, area);
}

/// `streams        ████░░░░░░       12 of 64`
fn meter_line(colours: Colours, meter: &Meter, width: usize) -> Line<'static> {
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
            let style = colours.style(tone).remove_modifier(Modifier::REVERSED);
            Line::from(vec![
                name,
                Span::styled(full, style),
                Span::styled(empty, colours.style(Tone::Quiet)),
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
            let values = values.map(|value| value.map_or("–".to_owned(), ms));
            let values = format!("{:>8} {:>8} {:>8} ", values[0], values[1], values[2]);
            row(name, Span::raw(values), width)
        })
        .collect();
    let quiet = screen.colours.style(Tone::Quiet);
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
        let figures = format!("{:>9}{:>8}", lately.map_or("–".to_owned(), rate), count(*total));
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
        Line::from(Span::styled(format!("{name:room$}{figures}"), screen.colours.style(tone)))
    };
    let mut refused = stats.counts(REFUSED);
    refused.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let ended = stats.counts(ENDED);
    let ended = ended.iter().map(|count| line(ENDED, "", count));
    ended.chain(refused.iter().take(MAX_REFUSED).map(|count| line(REFUSED, "refused: ", count))).collect()
}

fn inside_lines(screen: &Screen, stats: &Stats, width: usize) -> Vec<Line<'static>> {
    let colours = screen.colours;
    let mut lines: Vec<_> = stats
        .inside()
        .iter()
        .map(|(name, value)| left(name, value, colours.style(Tone::Plain), width))
        .collect();
    if let Some(swap) = stats.swap() {
        lines.push(left("swap", &swap.what, colours.style(Tone::Title), width));
        match &swap.download {
            Some((share, text)) => {
                let [full, empty] =
                    bar(*share, width.saturating_sub(NAME + text.chars().count() + 1).min(20));
                lines.push(Line::from(vec![
                    Span::raw(format!("{:NAME$}", "  download")),
                    Span::styled(full, colours.style(Tone::Good)),
                    Span::styled(empty, colours.style(Tone::Quiet)),
                    Span::raw(format!(" {text}")),
                ]));
                wrapped(&mut lines, &format!("{}, {}", percent(*share), swap.state), Style::new(), width);
            }
            None => wrapped(&mut lines, &swap.state, Style::new(), width),
        }
    }
    if let Some(swap) = stats.last_swap() {
        let tone = if swap.failed == Failed::Yes { Tone::Warning } else { Tone::Plain };
        let style = colours.style(tone);
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
