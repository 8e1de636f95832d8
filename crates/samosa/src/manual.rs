//! `samosa man`: the manual pages. Flags and commands come from the command line, variables from the table of settings;
//! only what neither knows (exit codes, files, examples) is written here.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Arg, ArgMatches, Command, value_parser};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

use crate::settings;

/// Exit codes, and what they say.
const EXIT: &[(&str, &str)] = &[
    ("0", "Done. Of a server: it was told to stop, and every stream came to its end or to DRAIN_TIMEOUT."),
    ("1", "Failed; a line on standard error says why."),
    ("2", "Settings or arguments are wrong."),
    ("130", "Interrupted. Of a server: a second SIGINT ended it at once."),
    ("143", "Of a server: a second SIGTERM ended it at once."),
];

/// Variables that are no settings.
const OTHER_VARIABLES: &[(&str, &str)] = &[
    ("SAMOSA_CONFIG", "The TOML file, as --config has it."),
    (
        "AWS_*",
        "What S3 clients read: AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL and others.",
    ),
    ("OTEL_*", "What OpenTelemetry's exporters read, beside the endpoint."),
    ("HTTPS_PROXY, NO_PROXY", "The way to where models are fetched from."),
    ("LISTEN_FDS, NOTIFY_SOCKET, WATCHDOG_USEC", "What systemd says to a service."),
    ("TERM, NO_COLOR", "What the terminal can show."),
];

/// Files, the last five below MODEL_STORAGE_PATH.
const FILES: &[(&str, &str)] = &[
    (
        "samosa.toml",
        "Settings, under whatever name --config or SAMOSA_CONFIG has; `samosa config --example` prints one.",
    ),
    (
        "models.toml",
        "What is to be known of models: where they are fetched from, hashes, constants over those detected.",
    ),
    ("TAG/", "A model: weights, metadata, tokenizer. One that was fetched says in .samosa.json where from."),
    (".staging/TAG/", "A download in progress, which the next one goes on with."),
    (".samosa/identities.json", "Hashes of large files, so that each is read once."),
    (".samosa/last_model.json", "The model that served last, for RESTORE_LAST_MODEL."),
];

/// Command lines, and what they do.
const EXAMPLES: &[(&str, &str)] = &[
    ("samosa", "Serves the built-in model on 127.0.0.1:8003 and prints how to ask it."),
    (
        "MODEL_STORAGE_PATH=~/.cache/nanochat DEFAULT_MODEL_TAG=d20 samosa serve",
        "Serves a model that nanochat trained here.",
    ),
    (
        "samosa doctor d20",
        "Says what is wrong with the machine, the settings and this model, and what will be slow.",
    ),
    ("samosa pull d32", "Fetches a model that models.toml or HF_TAGS offers."),
    ("samosa swap d32 --url http://127.0.0.1:8003", "Has a running server serve it, while people chat."),
    ("samosa bench --url http://127.0.0.1:8003 --streams 16", "Measures what callers get."),
];

/// The command line of `man`.
pub(crate) fn command() -> Command {
    Command::new("man")
        .about("Print the manual page, or write a page for each command into a directory")
        .after_help(
            "For good: sudo samosa man /usr/local/share/man/man1; then `man samosa` and `man samosa-swap`.",
        )
        .arg(
            Arg::new("dir")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("Directory for samosa.1 and a page for each command; it is made if need be"),
        )
}

/// Prints or writes the pages of this command line.
pub(crate) fn run(matches: &ArgMatches, command: &Command) -> Result<()> {
    match matches.get_one::<PathBuf>("dir") {
        Some(directory) => write(directory, command),
        None => Ok(std::io::stdout().write_all(&first_page(command)?)?),
    }
}

fn write(directory: &Path, command: &Command) -> Result<()> {
    let shown = || directory.display().to_string();
    std::fs::create_dir_all(directory).with_context(shown)?;
    let mut pages = vec![("samosa".to_owned(), first_page(command)?)];
    // Commands are told of the settings first: some say which of them they do not go with.
    let mut command = command.clone();
    command.build();
    add_pages(&mut pages, "samosa", &command)?;
    for (name, page) in &pages {
        std::fs::write(directory.join(format!("{name}.1")), page).with_context(shown)?;
    }
    Ok(writeln!(std::io::stdout(), "{} pages are in {}", pages.len(), shown())?)
}

/// Adds the pages of the commands below one, and of those below them.
fn add_pages(pages: &mut Vec<(String, Vec<u8>)>, above: &str, command: &Command) -> Result<()> {
    for command in commands(command) {
        let name = format!("{above}-{}", command.get_name());
        pages.push((name.clone(), page(command)?));
        add_pages(pages, &name, command)?;
    }
    Ok(())
}

/// The commands below one, without `help`.
fn commands(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|command| command.get_name() != "help")
}

/// The page of a command, without the settings.
fn page(command: &Command) -> Result<Vec<u8>> {
    let mut shown = without_settings(command);
    if command.find_subcommand("help").is_some() {
        shown = shown.mut_subcommand("help", |help| help.hide(true));
    }
    let page = man(shown);
    let mut out = head(&page, &page)?;
    if commands(command).next().is_some() {
        page.render_subcommands_section(&mut out)?;
    }
    let mut roff = Roff::new();
    if let Some(notes) = command.get_after_help() {
        roff.control("SH", ["NOTES"]).text([roman(notes.to_string())]);
    }
    roff.control("SH", ["SEE ALSO"]);
    roff.text([bold("samosa"), roman("(1) has the settings, which every command takes as flags too.")]);
    roff.to_writer(&mut out)?;
    Ok(out)
}

/// The same command, which hides its settings.
fn without_settings(command: &Command) -> Command {
    let is_setting = |flag: &Arg| settings::named(flag.get_id().as_str()).is_some();
    command.clone().mut_args(|flag| if is_setting(&flag) { flag.hide(true) } else { flag })
}

/// The page of the program, with all settings.
fn first_page(command: &Command) -> Result<Vec<u8>> {
    let command = command.clone().disable_help_subcommand(true);
    let (page, synopsis) = (man(command.clone()), man(without_settings(&command)));
    let mut out = head(&page, &synopsis)?;
    page.render_subcommands_section(&mut out)?;
    let mut roff = Roff::new();
    section(&mut roff, "EXIT STATUS", EXIT);
    environment(&mut roff);
    section(&mut roff, "FILES", FILES);
    section(&mut roff, "EXAMPLES", EXAMPLES);
    roff.to_writer(&mut out)?;
    Ok(out)
}

fn man(command: Command) -> Man {
    Man::new(command).source(concat!("samosa ", env!("CARGO_PKG_VERSION"))).manual("samosaChaat Inference")
}

/// A page down to its flags, with the synopsis of another.
fn head(page: &Man, synopsis: &Man) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    page.render_title(&mut out)?;
    page.render_name_section(&mut out)?;
    synopsis.render_synopsis_section(&mut out)?;
    page.render_description_section(&mut out)?;
    page.render_options_section(&mut out)?;
    Ok(out)
}

fn section(roff: &mut Roff, title: &str, entries: &[(&str, &str)]) {
    roff.control("SH", [title]);
    for (name, text) in entries {
        roff.control("TP", []).text([bold(*name)]).text([roman(*text)]);
    }
}

/// Every setting's variable with its values; what it does is said behind its flag.
fn environment(roff: &mut Roff) {
    roff.control("SH", ["ENVIRONMENT"]);
    roff.text([roman(
        "Every setting is a flag, an environment variable or a key of the TOML file; the first of these that is there \
         counts, and an empty one is none.",
    )]);
    for setting in settings::all() {
        let default = if setting.default.is_empty() { "not set" } else { setting.default };
        let values = format!("{}; {default} by default.", setting.kind.expected());
        roff.control("TP", []).text([bold(setting.variable())]);
        roff.text([roman("As "), italic(format!("--{}", setting.flag())), roman(format!(": {values}"))]);
    }
    for (name, text) in OTHER_VARIABLES {
        roff.control("TP", []).text([bold(*name)]).text([roman(*text)]);
    }
}
