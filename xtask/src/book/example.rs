//! What is to be done with a block: its language, and what the comment before it says.

use super::markdown::Fence;
use super::matching::Figures;

/// What is done with a block.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum ExampleKind {
    /// A terminal, or a program.
    Run(HowToRun),
    /// A file of settings.
    Settings,
    /// A `models.toml`.
    Models,
    Json,
    Yaml,
    /// Text that is no example.
    Drawing,
    /// Nothing, and why.
    Not(String),
}

/// How it is run.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct HowToRun {
    /// With a server that has these settings.
    pub(super) server: Option<Vec<(String, String)>>,
    /// After these files were put into the page's folder.
    pub(super) layout: Option<String>,
    /// Whether it goes on until the page ends.
    pub(super) in_background: bool,
    pub(super) figures: Figures,
}

/// What a block's language and comment ask for.
pub(super) fn way(fence: &Fence) -> Result<ExampleKind, String> {
    let comment = fence.comment.as_deref().unwrap_or_default();
    if let Some(reason) = comment.strip_prefix("not run:") {
        return match reason.trim() {
            "" => Err("`not run:` without a reason".to_owned()),
            reason => Ok(ExampleKind::Not(reason.to_owned())),
        };
    }
    match (fence.language.as_str(), comment.split_once(':').map(|(verb, words)| (verb, words.trim()))) {
        ("console" | "python", Some(("run", words))) => run(words).map(ExampleKind::Run),
        ("console", _) => run("").map(ExampleKind::Run),
        ("python", _) => Err("a block of Python says `run: …` or `not run: REASON`".to_owned()),
        ("toml", Some(("check", "settings"))) => Ok(ExampleKind::Settings),
        ("toml", Some(("check", "models"))) => Ok(ExampleKind::Models),
        ("toml", _) => {
            Err("a block of TOML says `check: settings`, `check: models` or `not run: REASON`".to_owned())
        }
        ("json", _) => Ok(ExampleKind::Json),
        ("yaml", _) => Ok(ExampleKind::Yaml),
        ("text", _) => Ok(ExampleKind::Drawing),
        ("", _) => Err("a block without a language".to_owned()),
        (other, _) => Err(format!("a block of `{other}` can only say `not run: REASON`")),
    }
}

fn run(words: &str) -> Result<HowToRun, String> {
    let mut run = HowToRun { server: None, layout: None, in_background: false, figures: Figures::Exact };
    for word in words.split_whitespace() {
        match (word, word.split_once('=')) {
            ("server", _) => run.server = Some(Vec::new()),
            ("background", _) => run.in_background = true,
            ("figures", _) => run.figures = Figures::Any,
            (_, Some(("layout", name))) => run.layout = Some(name.to_owned()),
            (_, Some((name, value))) if is_setting(name) => match &mut run.server {
                Some(settings) => settings.push((name.to_owned(), value.to_owned())),
                None => return Err(format!("`{word}` is a setting of a server, so `server` goes before it")),
            },
            _ => {
                return Err(format!(
                    "`{word}` is none of server, SETTING=VALUE, layout=NAME, background, figures"
                ));
            }
        }
    }
    Ok(run)
}

fn is_setting(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(language: &str, comment: Option<&str>) -> Result<ExampleKind, String> {
        let comment = comment.map(str::to_owned);
        way(&Fence { line: 1, language: language.to_owned(), text: String::new(), comment })
    }

    fn ran(comment: Option<&str>) -> HowToRun {
        match of("console", comment) {
            Ok(ExampleKind::Run(run)) => run,
            other => panic!("{comment:?}: {other:?}"),
        }
    }

    #[test]
    fn a_terminal_is_run_as_it_is_or_as_the_comment_says() {
        let plain = HowToRun { server: None, layout: None, in_background: false, figures: Figures::Exact };
        assert_eq!(ran(None), plain);
        assert_eq!(ran(Some("some remark")), plain);
        let server =
            vec![("STORAGE".to_owned(), "models".to_owned()), ("PORT_2".to_owned(), "a=b".to_owned())];
        assert_eq!(ran(Some("run: server STORAGE=models PORT_2=a=b")).server, Some(server));
        let run = ran(Some("run: layout=sft background figures"));
        assert_eq!(
            (run.layout.as_deref(), run.in_background, run.figures),
            (Some("sft"), true, Figures::Any)
        );
    }

    #[test]
    fn other_languages_are_checked_or_say_why_not() {
        assert_eq!(of("toml", Some("check: settings")), Ok(ExampleKind::Settings));
        assert_eq!(of("toml", Some("check: models")), Ok(ExampleKind::Models));
        assert_eq!(
            (of("json", None), of("yaml", None), of("text", None)),
            (Ok(ExampleKind::Json), Ok(ExampleKind::Yaml), Ok(ExampleKind::Drawing))
        );
        assert_eq!(of("rust", Some("not run: it is long")), Ok(ExampleKind::Not("it is long".to_owned())));
    }

    #[test]
    fn what_says_nothing_or_nonsense_is_refused() {
        for (language, comment) in [
            ("", None),
            ("bash", None),
            ("python", None),
            ("toml", None),
            ("toml", Some("check: all")),
            ("console", Some("not run:")),
            ("console", Some("run: sever")),
            ("console", Some("run: STORAGE=models")),
            ("python", Some("run: storage=models")),
        ] {
            assert!(of(language, comment).is_err(), "{language} {comment:?}");
        }
    }
}
