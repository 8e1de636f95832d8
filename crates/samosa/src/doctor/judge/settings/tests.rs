use super::*;
use crate::doctor::finding::Mark::{self, Note, Ok as Fine, Warning, Wrong};
use crate::settings::all;

/// The defaults, on an address that is free.
fn fine() -> SettingsFacts {
    SettingsFacts {
        values: all().map(|setting| (setting.key, setting.default.to_owned())).collect(),
        address: Some(([127, 0, 0, 1], 8003).into()),
        port: Some(Port::Free),
        has_keys: true,
        max_files: Some(524_288),
        ..SettingsFacts::default()
    }
}

/// The same with settings that are set.
fn with(facts: &mut SettingsFacts, set: &[(&'static str, &str)]) {
    for (key, value) in set {
        facts.values.retain(|(known, _)| known != key);
        facts.values.push((key, (*value).to_owned()));
        facts.set.push((key.to_ascii_uppercase(), (*value).to_owned(), "flag"));
    }
}

fn public(facts: &mut SettingsFacts) {
    facts.address = Some(([0, 0, 0, 0], 8003).into());
}

fn certificate(facts: &mut SettingsFacts, standing: Standing) {
    (facts.has_certificate, facts.standing) = (true, Some(standing));
}

#[test]
fn defaults_get_no_advice() {
    let found = settings(&fine());
    assert!(found.iter().all(|finding| finding.mark == Fine && finding.advice.is_empty()), "{found:?}");
}

/// What is changed of the settings, which finding that makes, and what it says or advises.
type Case = (fn(&mut SettingsFacts), &'static str, Mark, &'static str);

const CASES: &[Case] = &[
    (|f| f.wrong.push("PORT is odd".to_owned()), "setting", Wrong, "PORT is odd"),
    (|f| with(f, &[("port", "80")]), "set", Fine, "PORT is 80 (flag)"),
    (
        |f| f.port = Some(Port::Taken),
        "port",
        Wrong,
        "`ss -ltnp 'sport = :8003'` names it; end it, or set PORT",
    ),
    (|f| f.port = Some(Port::Ours(Some("d20".to_owned()))), "port", Note, "already, which serves d20"),
    (
        |f| (f.port, f.handover) = (Some(Port::Ours(None)), Some(Handover::Usable)),
        "port",
        Note,
        "A start takes over from it",
    ),
    (|f| f.port = Some(Port::Unusable("this user may not".to_owned())), "port", Wrong, "this user may not"),
    (
        |f| with(f, &[("metrics_addr", "127.0.0.1:8003")]),
        "metrics_port",
        Wrong,
        "where the service itself listens",
    ),
    (
        |f| {
            with(f, &[("metrics_addr", "127.0.0.1:9464")]);
            f.metrics_port = Some(Port::Taken);
        },
        "metrics_port",
        Wrong,
        "set METRICS_ADDR to something else",
    ),
    (public, "plain_http", Note, "set TLS_CERT and TLS_KEY"),
    (public, "admin_keys", Warning, "Every caller may swap the model"),
    (|f| f.has_certificate = true, "certificate", Note, "cannot be told"),
    (|f| certificate(f, Standing::Ended(1)), "certificate", Wrong, "has ended"),
    (
        |f| certificate(f, Standing::NotYetValid(2)),
        "certificate",
        Wrong,
        "not valid before 2 days have passed",
    ),
    (|f| certificate(f, Standing::EndsSoon(1)), "certificate", Warning, "ends in 1 day"),
    (|f| certificate(f, Standing::Valid(80)), "certificate", Fine, "good for 80 days"),
    (|f| f.handover = Some(Handover::Usable), "handover", Fine, "a successor can take over"),
    (|f| f.handover = Some(Handover::Occupied), "handover", Warning, "name another path"),
    (|f| f.handover = Some(Handover::NotWritable), "handover", Warning, "RuntimeDirectory="),
    (|f| f.max_files = Some(1024), "files", Warning, "Raise the limit to 1280"),
    (|f| with(f, &[("prefix_cache", "No")]), "prefix_cache", Note, "the prefix cache is off"),
    (|f| with(f, &[("speculation_tokens", "0")]), "speculation", Note, "speculation is off"),
    (|f| with(f, &[("log_level", "TRACE")]), "log_level", Warning, "LOG_LEVEL is TRACE"),
    (
        |f| with(f, &[("startup_load_enabled", "0"), ("default_model_tag", "d20")]),
        "not_loaded",
        Note,
        "The server waits for a swap",
    ),
    (|f| with(f, &[("restore_last_model", "yes")]), "nothing_to_restore", Note, "set MODEL_STORAGE_PATH"),
    (
        |f| with(f, &[("restore_last_model", "yes"), ("default_model_tag", "d20")]),
        "restored_first",
        Note,
        "outranks DEFAULT_MODEL_TAG",
    ),
    (
        |f| with(f, &[("hf_tags", "d20"), ("hf_hub_offline", "1")]),
        "hub_is_off",
        Note,
        "Nothing is fetched from the Hub",
    ),
    (|f| with(f, &[("hf_tags", "d20")]), "nowhere_to_fetch", Note, "What is fetched goes to the storage"),
    (|f| with(f, &[("queue_timeout", "600")]), "queue_timeout", Note, "no time left to be answered"),
];

#[test]
fn what_is_amiss_is_found_with_what_to_do() {
    for (number, (change, id, mark, says)) in CASES.iter().enumerate() {
        let mut facts = fine();
        change(&mut facts);
        let found = settings(&facts);
        let finding =
            found.iter().find(|finding| finding.id == *id).unwrap_or_else(|| panic!("{number}: {id}"));
        assert_eq!(finding.mark, *mark, "{number}: {finding:?}");
        assert!(finding.text.contains(says) || finding.advice.contains(says), "{number}: {finding:?}");
        assert_eq!(finding.advice.is_empty(), *mark == Fine, "{number}: {finding:?}");
    }
}

#[test]
fn what_slows_down_says_so() {
    let mut facts = fine();
    with(&mut facts, &[("speculation_tokens", "0"), ("log_level", "debug"), ("prefix_cache", "false")]);
    let found = settings(&facts);
    let costs: Vec<&str> =
        crate::doctor::judge::costs(found.iter()).iter().map(|cost| cost.text.as_str()).collect();
    assert!(
        costs.len() == 3 && costs[0].starts_with("PREFIX_CACHE") && costs[2].starts_with("LOG_LEVEL"),
        "{costs:?}"
    );
}

#[test]
fn who_keeps_swaps_to_a_few_on_an_encrypted_address_is_told_nothing() {
    let mut facts = fine();
    public(&mut facts);
    facts.has_admin_keys = true;
    certificate(&mut facts, Standing::Valid(90));
    assert!(settings(&facts).iter().all(|finding| finding.mark == Fine));
}
