//! `samosa completions` and `samosa man` of the built binary, in the shells and with the programs that read manual pages.
//! What is not installed is passed over, with a line that says so.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// Every command, those below others too.
const COMMANDS: &[&str] = &[
    "serve",
    "chat",
    "generate",
    "models",
    "models-list",
    "models-show",
    "models-verify",
    "pull",
    "swap",
    "bench",
    "top",
    "healthcheck",
    "config",
    "doctor",
    "completions",
    "man",
    "openapi",
    "version",
];

fn samosa(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_samosa")).args(arguments).env_clear().output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a program that may not be installed, with this on its standard input.
fn run(program: &str, arguments: &[&str], input: &str) -> Option<Output> {
    let child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        eprintln!("{program} is not installed: what needs it is not tested");
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // A thread of its own, so that neither side waits for the other.
    let writer = std::thread::Builder::new().spawn(move || drop(stdin.write_all(input.as_bytes()))).unwrap();
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Some(output)
}

/// What bash offers for a line that ends here.
fn completed(words: &[&str]) -> Vec<String> {
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let (line, last) = (quoted.join(" "), words.len() - 1);
    let script = format!(
        "{}\nCOMP_WORDS=({line})\nCOMP_CWORD={last}\nCOMPREPLY=()\n\
         _samosa samosa \"${{COMP_WORDS[{last}]}}\" \"${{COMP_WORDS[{last} - 1]}}\"\n\
         printf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
        samosa(&["completions", "bash"])
    );
    let Some(output) = run("bash", &["--norc", "--noprofile"], &script) else { return Vec::new() };
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_flags_and_values() {
    if run("bash", &["-c", "true"], "").is_none() {
        return;
    }
    for (words, expected) in [
        (&["samosa", "sw"][..], &["swap"][..]),
        (&["samosa", "models", "ver"], &["verify"]),
        (&["samosa", "swap", "--swap-m"], &["--swap-mode"]),
        (&["samosa", "serve", "--kv-ca"], &["--kv-cache-mb"]),
        (&["samosa", "--nanochat-dtype", "int"], &["int8", "int4"]),
        (&["samosa", "serve", "--log-level", "t"], &["trace"]),
        (&["samosa", "--swap-mode", ""], &["auto", "overlap", "serial"]),
        (&["samosa", "completions", "z"], &["zsh"]),
    ] {
        assert_eq!(completed(words), expected, "{words:?}");
    }
}

#[test]
fn every_shell_gets_a_script_that_it_can_read() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = samosa(&["completions", shell]);
        for word in ["healthcheck", "kv-cache-mb"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
        // The other two complete no values.
        assert!(script.contains("overlap") || matches!(shell, "elvish" | "powershell"), "{shell}");
        if matches!(shell, "bash" | "zsh" | "fish")
            && let Some(read) = run(shell, &["-n"], &script)
        {
            assert!(read.status.success(), "{shell}: {}", String::from_utf8_lossy(&read.stderr));
        }
    }
    let wrong = Command::new(env!("CARGO_BIN_EXE_samosa"))
        .args(["completions", "tcsh"])
        .env_clear()
        .output()
        .unwrap();
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn there_is_a_page_for_every_command_and_the_first_names_them_and_every_setting() {
    let directory = tempfile::tempdir().unwrap();
    let to = directory.path().join("man1");
    let said = samosa(&["man", to.to_str().unwrap()]);
    assert!(said.starts_with(&format!("{} pages are in ", COMMANDS.len() + 1)), "{said}");
    let page = |name: &str| std::fs::read_to_string(to.join(format!("{name}.1"))).unwrap();
    assert_eq!(page("samosa"), samosa(&["man"]));
    let first = page("samosa").replace("\\-", "-");
    for command in COMMANDS {
        assert!(page(&format!("samosa-{command}")).contains(".SH OPTIONS"), "{command}");
        assert!(command.contains('-') || first.contains(&format!("samosa-{command}(1)")), "{command}");
    }
    let settings: Value = serde_json::from_str(&samosa(&["config", "--json"])).unwrap();
    let settings = settings["settings"].as_object().unwrap();
    assert!(settings.len() > 40);
    for variable in settings.keys() {
        let flag = format!("--{}", variable.to_ascii_lowercase().replace('_', "-"));
        assert!(first.contains(variable) && first.contains(&flag), "{variable}");
    }
    assert!(!page("samosa-swap").contains("KV_CACHE_MB"), "settings are on the first page alone");
    read_without_warnings(&to);
}

/// Every page, by the programs that show them.
fn read_without_warnings(directory: &Path) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let path = path.to_str().unwrap();
        for (program, arguments) in
            [("groff", &["-K", "utf8", "-ww", "-z", "-man", path][..]), ("man", &["--warnings", "-l", path])]
        {
            let Some(read) = run(program, arguments, "") else { continue };
            let said = String::from_utf8_lossy(&read.stderr);
            assert!(read.status.success() && said.is_empty(), "{program} {path}: {said}");
        }
    }
}
