//! What a person sees of work that takes its time: its phases as they come, and how far a download is.
//!
//! On a terminal there is a spinner, a bar with rate and remaining time for a download, and above them a line for each
//! phase that is over. Elsewhere those lines are all, with one now and then during a long download. All of it goes to
//! standard error, and whatever draws on the terminal is gone once a [`Progress`] is dropped.

use std::fmt::Write as _;
use std::io::Write;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::text::{ByteSize, counted};

/// How often a download says how far it is, where there is no bar.
const REPORT_EVERY: Duration = Duration::from_secs(30);

/// How far a download is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Download {
    /// Files that are whole.
    pub files_done: u64,
    /// Files there are to fetch.
    pub files_total: u64,
    /// Bytes that are here, with those that an earlier try left behind.
    pub bytes_done: u64,
    /// 0 as long as it is not known.
    pub bytes_total: u64,
    /// Bytes that an earlier try left behind.
    pub bytes_resumed: u64,
    /// Requests that were made again.
    pub retries: u64,
}

/// Work in phases, one at a time, shown as it goes on.
pub struct Progress {
    shown: ProgressOutput,
    /// The phase that runs.
    phase: Option<String>,
}

/// Where it is shown.
enum ProgressOutput {
    Nowhere,
    /// On a terminal; each phase has a bar of its own.
    Bar {
        target: Box<dyn Fn() -> ProgressDrawTarget>,
        bar: Option<ProgressBar>,
    },
    /// In a file or a pipe. `last` is when a download was last reported, and how many bytes it had.
    Lines {
        out: Box<dyn Write>,
        every: Duration,
        last: Option<(Instant, u64)>,
    },
}

impl Progress {
    /// Shown on standard error, as a bar if that is a terminal.
    pub fn on_stderr() -> Self {
        if ProgressDrawTarget::stderr().is_hidden() {
            return Self::lines(Box::new(std::io::stderr()), REPORT_EVERY);
        }
        Self::bar(Box::new(ProgressDrawTarget::stderr))
    }

    /// Shown to nobody.
    pub fn silent() -> Self {
        Self { shown: ProgressOutput::Nowhere, phase: None }
    }

    fn bar(target: Box<dyn Fn() -> ProgressDrawTarget>) -> Self {
        Self { shown: ProgressOutput::Bar { target, bar: None }, phase: None }
    }

    fn lines(out: Box<dyn Write>, every: Duration) -> Self {
        Self { shown: ProgressOutput::Lines { out, every, last: None }, phase: None }
    }

    /// This phase runs. Saying so again shows that there still is life.
    pub fn phase(&mut self, name: &str) {
        let begins = self.phase.as_deref() != Some(name);
        if begins {
            self.phase = Some(name.to_owned());
        }
        match &mut self.shown {
            ProgressOutput::Nowhere => {}
            ProgressOutput::Bar { target, bar } => {
                if begins {
                    clear(bar);
                    *bar = Some(spinner(name, target()));
                }
                bar.iter().for_each(ProgressBar::tick);
            }
            ProgressOutput::Lines { last, .. } => *last = last.filter(|_| !begins),
        }
    }

    /// How far the phase that runs is, if it fetches something.
    pub fn download(&mut self, now: &Download) {
        let name = self.phase.as_deref().unwrap_or("download");
        match &mut self.shown {
            ProgressOutput::Nowhere => {}
            // Nobody knows how much it will be: the spinner goes on.
            ProgressOutput::Bar { .. } if now.bytes_total == 0 => {}
            ProgressOutput::Bar { target, bar } => {
                if bar.as_ref().is_none_or(|bar| bar.length().is_none()) {
                    clear(bar);
                    *bar = Some(download_bar(name, now, target()));
                }
                if let Some(bar) = bar {
                    bar.set_length(now.bytes_total);
                    bar.set_message(now.rest());
                    bar.set_position(now.bytes_done);
                }
            }
            ProgressOutput::Lines { out, every, last } => {
                let (then, bytes) = *last.get_or_insert_with(|| (crate::now(), now.bytes_done));
                let seconds = then.elapsed();
                if seconds >= *every && now.bytes_done > bytes {
                    let rate = (now.bytes_done - bytes) as f64 / seconds.as_secs_f64().max(1e-3);
                    // Whoever does not read the lines still gets the work done.
                    let _ = writeln!(out, "{name} {}, {}/s", now.so_far(), ByteSize(rate as u64));
                    *last = Some((crate::now(), now.bytes_done));
                }
            }
        }
    }

    /// A phase is over, and took so many seconds to do this.
    pub fn phase_ended(&mut self, name: &str, seconds: f64, did: Option<&Download>) {
        let line = format!("{name} {seconds:.1} s{}", did.map_or_else(String::new, Download::summary));
        match &mut self.shown {
            ProgressOutput::Nowhere => {}
            ProgressOutput::Bar { target, bar } => {
                bar.get_or_insert_with(|| spinner(name, target())).println(line);
                clear(bar);
            }
            ProgressOutput::Lines { out, .. } => {
                let _ = writeln!(out, "{line}");
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let ProgressOutput::Bar { bar, .. } = &mut self.shown {
            clear(bar);
        }
    }
}

impl Download {
    /// `1.2 GB of 2.4 GB`.
    fn so_far(&self) -> String {
        let Self { bytes_done, bytes_total, .. } = *self;
        match bytes_total {
            0 => ByteSize(bytes_done).to_string(),
            total => format!("{} of {}", ByteSize(bytes_done), ByteSize(total)),
        }
    }

    /// What stands behind the bar: `, file 2 of 3, 1 retry`.
    fn rest(&self) -> String {
        let Self { files_done, files_total, .. } = *self;
        let mut rest = String::new();
        if files_total > 1 {
            let _ = write!(rest, ", file {} of {files_total}", (files_done + 1).min(files_total));
        }
        if self.retries > 0 {
            let _ = write!(rest, ", {}", counted(self.retries, "retry", "retries"));
        }
        rest
    }

    /// What is said when it is over: `, 3 files, 2.4 GB, of which 1.0 GB were there, 1 retry`.
    fn summary(&self) -> String {
        let mut summary = format!(", {}", counted(self.files_done, "file", "files"));
        let _ = write!(summary, ", {}", ByteSize(self.bytes_done));
        if self.bytes_resumed > 0 {
            let _ = write!(summary, ", of which {} were there", ByteSize(self.bytes_resumed));
        }
        if self.retries > 0 {
            let _ = write!(summary, ", {}", counted(self.retries, "retry", "retries"));
        }
        summary
    }
}

fn clear(bar: &mut Option<ProgressBar>) {
    if let Some(bar) = bar.take() {
        bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn spinner(phase: &str, target: ProgressDrawTarget) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, target).with_style(style("{spinner} {prefix} {elapsed}"));
    bar.set_prefix(phase.to_owned());
    bar
}

fn download_bar(phase: &str, now: &Download, target: ProgressDrawTarget) -> ProgressBar {
    let template = "{spinner} {prefix} [{wide_bar}] {so_far}{remaining}{msg}";
    // Out of sight until it knows where it begins: what is there already tells nothing about the rate.
    let bar = ProgressBar::with_draw_target(Some(now.bytes_total), ProgressDrawTarget::hidden());
    bar.set_style(
        style(template).progress_chars("=> ").with_key("so_far", so_far).with_key("remaining", remaining),
    );
    bar.set_prefix(phase.to_owned());
    bar.set_position(now.bytes_done);
    bar.tick();
    bar.reset_eta();
    bar.set_draw_target(target);
    bar
}

/// `1.2 GB/2.4 GB, 80.1 MB/s`
fn so_far(state: &ProgressState, out: &mut dyn std::fmt::Write) {
    let (done, total) = (ByteSize(state.pos()), ByteSize(state.len().unwrap_or_default()));
    // A bar that cannot be drawn is not drawn.
    let _ = write!(out, "{done}/{total}, {}/s", ByteSize(state.per_sec() as u64));
}

/// `, 31s left`; nothing while nothing comes, when indicatif would say 0s.
fn remaining(state: &ProgressState, out: &mut dyn std::fmt::Write) {
    if state.per_sec() >= 1.0 {
        let _ = write!(out, ", {:#} left", HumanDuration(state.eta()));
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use indicatif::TermLike;

    use super::*;

    const HALF: Download = Download {
        files_done: 1,
        files_total: 3,
        bytes_done: 1_200_000_000,
        bytes_total: 2_400_000_000,
        bytes_resumed: 1_000_000_000,
        retries: 1,
    };

    /// Everything that was written, wherever the cursor was.
    #[derive(Clone, Default, Debug)]
    struct Paper(Arc<Mutex<String>>);

    impl Paper {
        fn text(&self) -> String {
            self.0.lock().unwrap().clone()
        }

        fn add(&self, text: &str) {
            self.0.lock().unwrap().push_str(text);
        }
    }

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.add(std::str::from_utf8(bytes).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl TermLike for Paper {
        fn width(&self) -> u16 {
            100
        }

        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn write_line(&self, line: &str) -> io::Result<()> {
            self.add(line);
            self.add("\n");
            Ok(())
        }

        fn write_str(&self, text: &str) -> io::Result<()> {
            self.add(text);
            Ok(())
        }

        fn clear_line(&self) -> io::Result<()> {
            self.add("<clear>");
            Ok(())
        }

        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn show(mut progress: Progress) {
        progress.phase("resolve");
        progress.phase_ended("resolve", 0.04, None);
        progress.phase("download");
        progress.download(&Download::default());
        progress.download(&HALF);
        progress.phase("download");
        progress.download(&Download { bytes_done: 1_800_000_000, files_done: 2, ..HALF });
        let all = Download { bytes_done: HALF.bytes_total, files_done: 3, ..HALF };
        progress.phase_ended("download", 2.1, Some(&all));
        progress.phase("verify");
    }

    const ENDED: &str = "download 2.1 s, 3 files, 2.4 GB, of which 1.0 GB were there, 1 retry\n";

    #[test]
    fn a_file_gets_a_line_for_each_phase() {
        let paper = Paper::default();
        show(Progress::lines(Box::new(paper.clone()), REPORT_EVERY));
        assert_eq!(paper.text(), format!("resolve 0.0 s\n{ENDED}"));
    }

    #[test]
    fn a_long_download_says_how_far_it_is() {
        let paper = Paper::default();
        show(Progress::lines(Box::new(paper.clone()), Duration::ZERO));
        let text = paper.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[1].starts_with("download 1.2 GB of 2.4 GB, ") && lines[1].ends_with("B/s"), "{text}");
        assert!(lines[2].starts_with("download 1.8 GB of 2.4 GB, "), "{text}");
    }

    #[test]
    fn a_terminal_gets_a_bar_and_keeps_the_phases_that_are_over() {
        let paper = Paper::default();
        let screen = paper.clone();
        let target = move || ProgressDrawTarget::term_like_with_hz(Box::new(screen.clone()), 255);
        show(Progress::bar(Box::new(target)));
        let text = paper.text();
        assert!(text.contains("resolve 0.0 s") && text.contains(ENDED.trim_end()), "{text}");
        let bar = text.split("<clear>").find(|drawn| drawn.contains("1.2 GB/2.4 GB, ")).unwrap();
        assert!(bar.contains("download [==") && !bar.contains(" left"), "no rate, no time: {bar}");
        assert!(text.contains(", file 2 of 3, 1 retry"), "{text}");
        let left = text.rsplit("<clear>").next().unwrap();
        assert!(left.trim().is_empty(), "the bar is gone in the end: {left:?}");
    }

    #[test]
    fn what_was_there_before_tells_nothing_about_the_rate() {
        let bar = download_bar("download", &HALF, ProgressDrawTarget::hidden());
        assert!(bar.per_sec() < 1e6, "{} a second", bar.per_sec());
        std::thread::sleep(Duration::from_millis(20));
        bar.set_position(HALF.bytes_done + 1_000_000);
        assert!((1e3..5e7).contains(&bar.per_sec()), "{} a second", bar.per_sec());
    }
}
