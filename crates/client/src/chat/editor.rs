//! The prompt: one text at a time, edited, completed, and remembered.

use std::borrow::Cow;
use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::{IsTerminal, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::{Context, Result};
use ratatui::crossterm::terminal::disable_raw_mode;
use reedline::{
    ColumnarMenu, Completer, CompletionResult, Emacs, FileBackedHistory, KeyCode, KeyModifiers, MenuBuilder,
    Prompt, PromptEditMode, PromptHistorySearch, Reedline, ReedlineEvent, ReedlineMenu, Signal,
    SimpleMatchHighlighter, Span, Suggestion, ValidationResult, Validator, default_emacs_keybindings,
};
use tokio::signal::unix::{SignalKind, signal};

use super::command::{COMMANDS, Home, SETTABLE};
use super::input::is_whole;
use super::talk::Tags;
use crate::text::Palette;

/// Texts that are remembered.
const REMEMBERED: usize = 1000;
/// Files of a directory that are looked at to complete a name.
const MAX_FILES: usize = 1000;
/// How often is looked whether there still is a terminal.
const LOOK_AT_TERMINAL: Duration = Duration::from_secs(1);
const MENU: &str = "words";

/// What somebody did at the prompt.
pub(super) enum Typed {
    Text(String),
    /// Ctrl-C: the line is gone.
    Cleared,
    /// Ctrl-D, or the terminal has gone.
    End,
}

/// The prompt.
pub(super) struct Editor(Reedline);

impl Editor {
    /// A prompt that remembers texts in this file, if it can.
    pub(super) fn new(history: Option<PathBuf>, palette: Palette, tags: Tags, home: Home) -> Self {
        let mut keys = default_emacs_keybindings();
        let complete =
            ReedlineEvent::UntilFound(vec![ReedlineEvent::Menu(MENU.to_owned()), ReedlineEvent::MenuNext]);
        keys.add_binding(KeyModifiers::NONE, KeyCode::Tab, complete);
        keys.add_binding(KeyModifiers::SHIFT, KeyCode::BackTab, ReedlineEvent::MenuPrevious);
        // No other program is started from here.
        keys.remove_binding(KeyModifiers::CONTROL, KeyCode::Char('o'));
        let menu = ColumnarMenu::default().with_name(MENU).with_marker(PROMPT);
        let mut editor = Reedline::create()
            .with_validator(Box::new(WholeText))
            .with_highlighter(Box::new(SimpleMatchHighlighter::default()))
            .with_completer(Box::new(TabWords { tags, home }))
            .with_menu(ReedlineMenu::EngineCompleter(Box::new(menu)))
            .with_quick_completions(true)
            .with_partial_completions(true)
            .with_edit_mode(Box::new(Emacs::new(keys)))
            .with_ansi_colors(palette == Palette::Coloured)
            .use_bracketed_paste(true);
        if let Some(kept) = history.and_then(|file| kept(&file)) {
            editor = editor.with_history(Box::new(kept));
        } else if let Ok(forgotten) = FileBackedHistory::new(REMEMBERED) {
            editor = editor.with_history(Box::new(forgotten));
        }
        Self(editor)
    }

    /// Waits for the next text.
    pub(super) fn read(&mut self) -> Result<Typed> {
        let typed = self.0.read_line(&Sign).context("the terminal cannot be used")?;
        // A disk that is full forgets.
        let _ = self.0.sync_history();
        Ok(match typed {
            Signal::Success(text) => Typed::Text(text.replace("\r\n", "\n").replace('\r', "\n")),
            Signal::CtrlC => Typed::Cleared,
            _ => Typed::End,
        })
    }
}

/// A history in a file that nobody else may read.
fn kept(file: &Path) -> Option<FileBackedHistory> {
    const OURS: u32 = 0o600;
    const OUR_DIRECTORY: u32 = 0o700;
    DirBuilder::new().recursive(true).mode(OUR_DIRECTORY).create(file.parent()?).ok()?;
    let opened = OpenOptions::new().append(true).create(true).mode(OURS).open(file).ok()?;
    opened.set_permissions(Permissions::from_mode(OURS)).ok()?;
    FileBackedHistory::with_file(REMEMBERED, file.to_owned()).ok()
}

/// Puts the terminal back and ends when a signal comes or the terminal goes: whoever waits for keys of a terminal that is
/// gone waits for ever.
pub(super) async fn guard_terminal() {
    let signals = [SignalKind::terminate(), SignalKind::hangup()].map(signal);
    let [Ok(mut terminate), Ok(mut hangup)] = signals else { return };
    let code = tokio::select! {
        _ = terminate.recv() => 128 + SignalKind::terminate().as_raw_value(),
        _ = hangup.recv() => 128 + SignalKind::hangup().as_raw_value(),
        () = gone() => 1,
    };
    let _ = disable_raw_mode();
    // Pastes are not marked any more, and colours are over.
    let _ = write!(std::io::stderr(), "\x1b[?2004l\x1b[0m");
    std::process::exit(code);
}

async fn gone() {
    while std::io::stdin().is_terminal() {
        tokio::time::sleep(LOOK_AT_TERMINAL).await;
    }
}

const PROMPT: &str = "› ";

/// The prompt's sign.
struct Sign;

impl Prompt for Sign {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_indicator(&self, _: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed(PROMPT)
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Borrowed("· ")
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        Cow::Owned(format!("search \"{}\" › ", search.term))
    }
}

/// Whether Enter sends.
struct WholeText;

impl Validator for WholeText {
    fn validate(&self, text: &str) -> ValidationResult {
        if is_whole(text) { ValidationResult::Complete } else { ValidationResult::Incomplete }
    }
}

/// What Tab offers.
struct TabWords {
    tags: Tags,
    home: Home,
}

impl Completer for TabWords {
    fn complete(&mut self, line: &str, at: usize) -> CompletionResult {
        let typed = &line[..at];
        let (begin, words) =
            offers(typed, &self.tags.lock().unwrap_or_else(PoisonError::into_inner), &self.home);
        let suggestion = |value: String| Suggestion {
            append_whitespace: !value.ends_with('/'),
            value,
            span: Span::new(begin, at),
            ..Suggestion::default()
        };
        CompletionResult::fresh(words.into_iter().map(suggestion).collect::<Vec<_>>())
    }
}

/// The words that may stand where the last one of `typed` begins, and where that is.
fn offers(typed: &str, tags: &[String], home: &Home) -> (usize, Vec<String>) {
    let Some(command) = typed.strip_prefix('/') else { return (typed.len(), Vec::new()) };
    let Some((name, rest)) = command.split_once(' ') else {
        let names = COMMANDS.iter().map(|(name, ..)| format!("/{name}"));
        return (0, beginning_with(names, typed));
    };
    let rest = rest.trim_start();
    let begin = typed.len() - rest.len();
    let words = match name {
        "model" => beginning_with(tags.iter().cloned(), rest),
        "set" => match rest.split_once(' ') {
            None => beginning_with(SETTABLE.iter().map(|&name| name.to_owned()), rest),
            Some((name, value)) => {
                let more = if name == "seed" { "random" } else { "default" };
                return (typed.len() - value.len(), beginning_with([more.to_owned()].into_iter(), value));
            }
        },
        "save" | "save!" | "load" => files(rest, home),
        _ => Vec::new(),
    };
    (begin, words)
}

fn beginning_with(words: impl Iterator<Item = String>, typed: &str) -> Vec<String> {
    words.filter(|word| word.starts_with(typed)).collect()
}

/// Files whose names go on from here; directories end with a slash.
fn files(typed: &str, home: &Home) -> Vec<String> {
    let (directory, beginning) = typed.rfind('/').map_or(("", typed), |at| typed.split_at(at + 1));
    let listed = if directory.is_empty() { PathBuf::from(".") } else { home.path(directory) };
    let Ok(entries) = std::fs::read_dir(listed) else { return Vec::new() };
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.ok()?;
        let name = entry.file_name().into_string().ok()?;
        let is_hidden = name.starts_with('.') && !beginning.starts_with('.');
        let is_plain = !name.chars().any(char::is_control);
        let slash = if entry.path().is_dir() { "/" } else { "" };
        (name.starts_with(beginning) && !is_hidden && is_plain).then(|| format!("{directory}{name}{slash}"))
    };
    let mut names: Vec<String> = entries.take(MAX_FILES).filter_map(name).collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tab_offers_what_may_follow() {
        let (tags, home) = (["d12", "d20", "mini"].map(str::to_owned), Home(None));
        assert_eq!(offers("/mod", &tags, &home), (0, vec!["/model".to_owned(), "/models".to_owned()]));
        assert_eq!(offers("/model d", &tags, &home), (7, vec!["d12".to_owned(), "d20".to_owned()]));
        assert_eq!(offers("/set s", &tags, &home), (5, vec!["seed".to_owned()]));
        assert_eq!(offers("/set seed r", &tags, &home), (10, vec!["random".to_owned()]));
        assert!(offers("hello", &tags, &home).1.is_empty() && offers("/reset x", &tags, &home).1.is_empty());
    }

    #[test]
    fn files_are_offered_by_their_names() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["talk one.json", "talk.md", ".hidden", "x\u{1b}"] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        std::fs::create_dir(directory.path().join("talks")).unwrap();
        let at = format!("{}/", directory.path().display());
        let expected = ["talk one.json", "talk.md", "talks/"].map(|name| format!("{at}{name}"));
        assert_eq!(offers(&format!("/load {at}"), &[], &Home(None)).1, expected);
        assert_eq!(offers(&format!("/save {at}talk."), &[], &Home(None)).1, [format!("{at}talk.md")]);
    }

    #[test]
    fn nobody_else_reads_the_history() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("state/samosa/chat_history");
        drop(kept(&file).unwrap());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
        std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        drop(kept(&file).unwrap());
        assert_eq!(mode(&file), 0o600);
    }
}
