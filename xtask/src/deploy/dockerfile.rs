//! The Dockerfile, read as far as it goes: stages, and what the last one holds. An instruction whose effect is not known
//! here is refused, so that what is put together from this is what a builder would make.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};

/// The last stage, and how the files that it copies come about.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Image {
    /// The words of the command in the build stage that runs a script of the repository.
    pub(crate) assemble: Vec<String>,
    pub(crate) copies: Vec<Copy>,
    pub(crate) environment: BTreeMap<String, String>,
    /// `UID:GID`, in digits.
    pub(crate) user: String,
    pub(crate) entrypoint: Vec<String>,
    pub(crate) health_check: Vec<String>,
    pub(crate) volumes: Vec<String>,
    pub(crate) port: String,
    /// The stage as it is written, instruction by instruction.
    pub(crate) instructions: Vec<String>,
}

/// Files that come from the build stage.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Copy {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) owner: Option<String>,
}

/// Reads a Dockerfile of two stages, the second of which begins with nothing.
pub(crate) fn read(text: &str) -> anyhow::Result<Image> {
    let mut image = Image::default();
    let mut stages: Vec<String> = Vec::new();
    for (instruction, rest) in instructions(text) {
        let line = format!("{instruction} {rest}");
        match (instruction.as_str(), stages.len()) {
            ("FROM", _) => stages.push(rest),
            ("RUN", 1) => read_build(&mut image, &rest),
            (_, 0 | 1) => continue,
            _ => read_final(&mut image, &instruction, &rest).with_context(|| line.clone())?,
        }
        if stages.len() == 2 {
            image.instructions.push(line);
        }
    }
    match stages.as_slice() {
        [build, last] if build.ends_with(" AS build") && last == "scratch" => {}
        _ => bail!("the stages are {stages:?}, and not one named `build` and one from scratch"),
    }
    if image.assemble.is_empty() {
        bail!("the build stage does not run the script that puts the image together");
    }
    if image.entrypoint.is_empty() || image.user.is_empty() || image.health_check.is_empty() {
        bail!("ENTRYPOINT, USER or HEALTHCHECK is missing");
    }
    Ok(image)
}

/// Instructions in capitals with what follows them, continued lines joined.
fn instructions(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut found: Vec<(String, String)> = Vec::new();
    let mut continues = false;
    for line in lines {
        let part = line.trim_end_matches('\\').trim_end();
        if continues && let Some((_, rest)) = found.last_mut() {
            rest.push(' ');
            rest.push_str(part);
        } else {
            let (instruction, rest) = part.split_once(' ').unwrap_or((part, ""));
            found.push((instruction.to_ascii_uppercase(), rest.trim().to_owned()));
        }
        continues = line.ends_with('\\');
    }
    found
}

fn read_build(image: &mut Image, command: &str) {
    let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
    if words.iter().any(|word| word.starts_with("deploy/")) {
        image.assemble = words;
    }
}

fn read_final(image: &mut Image, instruction: &str, rest: &str) -> anyhow::Result<()> {
    match instruction {
        "COPY" => image.copies.push(read_copy(rest)?),
        "ENV" => {
            for pair in rest.split_whitespace() {
                let (name, value) = pair.split_once('=').context("not NAME=VALUE")?;
                image.environment.insert(name.to_owned(), value.to_owned());
            }
        }
        "USER" => {
            let is_number = |id: &str| id.parse::<u32>().is_ok_and(|id| id != 0);
            if !rest.split_once(':').is_some_and(|(user, group)| is_number(user) && is_number(group)) {
                bail!("not UID:GID in digits, or root");
            }
            rest.clone_into(&mut image.user);
        }
        "ENTRYPOINT" => image.entrypoint = words(rest)?,
        "HEALTHCHECK" => image.health_check = words(rest.split_once("CMD").context("no CMD")?.1)?,
        "VOLUME" => image.volumes = words(rest)?,
        "EXPOSE" => rest.clone_into(&mut image.port),
        "STOPSIGNAL" if rest == "SIGTERM" => {}
        "LABEL" => {}
        _ => bail!("nobody here knows what this does to the image"),
    }
    Ok(())
}

fn read_copy(rest: &str) -> anyhow::Result<Copy> {
    let (flags, paths): (Vec<&str>, Vec<&str>) =
        rest.split_whitespace().partition(|word| word.starts_with("--"));
    let [from, to] = paths[..] else { bail!("not one source and one destination") };
    if !flags.contains(&"--from=build") {
        bail!("not from the build stage");
    }
    let owner = flags.iter().find_map(|flag| flag.strip_prefix("--chown=")).map(str::to_owned);
    if flags.len() != 1 + usize::from(owner.is_some()) {
        bail!("an unknown flag");
    }
    Ok(Copy { from: from.to_owned(), to: to.to_owned(), owner })
}

/// Words as JSON: the form that needs no shell.
fn words(text: &str) -> anyhow::Result<Vec<String>> {
    serde_json::from_str(text.trim()).context("not a list of words, as is needed where there is no shell")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# a\nFROM rust AS build\nCOPY . .\nRUN cargo build && \\\n  cp a /b\nRUN sh deploy/x.sh /b /image\n\
        FROM scratch\nCOPY --from=build --chown=7:8 /image/a /a\nENV A=1 \\\n  # why\n  B=2\nUSER 7:8\n\
        HEALTHCHECK --retries=3 CMD [\"/b\", \"check\"]\nENTRYPOINT [\"/b\"]\n";

    #[test]
    fn the_last_stage_is_read() {
        let image = read(TEXT).unwrap();
        assert_eq!(image.assemble, ["sh", "deploy/x.sh", "/b", "/image"]);
        let copy = Copy { from: "/image/a".to_owned(), to: "/a".to_owned(), owner: Some("7:8".to_owned()) };
        assert_eq!(image.copies, [copy]);
        assert_eq!(image.environment.keys().collect::<Vec<_>>(), ["A", "B"]);
        assert_eq!((image.user.as_str(), image.health_check.len()), ("7:8", 2));
        assert_eq!(image.instructions.len(), 6);
    }

    #[test]
    fn what_could_not_be_done_here_as_well_is_refused() {
        for (from, to) in [
            ("FROM scratch", "FROM debian"),
            ("USER 7:8", "USER samosa"),
            ("USER 7:8", "USER 0:0"),
            ("USER 7:8", "RUN id"),
            ("ENTRYPOINT [\"/b\"]", "ENTRYPOINT /b"),
            ("--from=build", "--from=other"),
        ] {
            assert!(read(&TEXT.replace(from, to)).is_err(), "{to}");
        }
    }
}
