//! Settings of the network's edge: keys and where they are written, hosts, origins, TLS.
//!
//! The same keys are sent by the commands that are clients.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, anyhow, bail};
use server::edge::{Standing, Tls};
use server::{Edge, Keys};

use crate::reload::{Files, Watched};
use crate::settings::{Setting, TypedSetting, Values};

/// Who may call, what else the network meets, and the files to follow for it.
pub(crate) fn read(values: &Values) -> Result<(Keys, Edge, Vec<Watched>)> {
    let allowed_hosts = list(&values.allowed_hosts, "names or addresses without a port, or *.SUFFIX")?;
    let expected = "origins as browsers send them, such as https://chat.example, and never *";
    let cors_origins = list(&values.cors_allowed_origins, expected)?;
    let (keys, admin_keys) = (fixed(&values.internal_api_key), fixed(&values.admin_api_key));
    let mut watched = Vec::new();
    let (internal, admin) = (&values.internal_api_key_file, &values.admin_api_key_file);
    watched.extend(follow(internal, fixed(&values.internal_api_key), &keys, &admin_keys)?);
    watched.extend(follow(admin, fixed(&values.admin_api_key), &admin_keys, &keys)?);
    if keys.overlaps(&admin_keys) {
        bail!("a key of ADMIN_API_KEY is one of INTERNAL_API_KEY too, so that every caller could swap");
    }
    let tls = tls(values)?.map(|(tls, files)| {
        watched.extend(files);
        tls
    });
    Ok((keys, Edge { admin_keys, allowed_hosts, cors_origins, tls }, watched))
}

/// The keys that are given by their setting, and not in a file.
fn fixed(setting: &Setting) -> Keys {
    Keys::parse(setting.text())
}

/// A list that is read as a whole; what cannot be read is named by its item.
fn list<T: FromStr>(setting: &Setting, expected: &str) -> Result<T> {
    setting.check_items(expected, |item| item.parse::<T>().is_ok())?;
    setting.text().parse().or_else(|_| setting.refuse(expected))
}

/// Adds the keys of a file to the fixed ones in `keys`, and keeps them as the file has them. No key may come to be
/// among the `others`.
fn follow(
    file: &TypedSetting<Option<PathBuf>>,
    fixed: Keys,
    keys: &Keys,
    others: &Keys,
) -> Result<Option<Watched>> {
    let Some(path) = file.get()? else { return Ok(None) };
    let (keys, others, shown) = (keys.clone(), others.clone(), path.display().to_string());
    let apply = move |contents: &[Vec<u8>]| {
        let text = std::str::from_utf8(&contents[0]).map_err(|_| format!("{shown} is no text"))?;
        let found = Keys::parse(text);
        if found.is_empty() {
            return Err(format!("{shown} holds no key"));
        }
        if found.overlaps(&others) {
            return Err(format!("{shown} holds a key that is both an internal and an admin key"));
        }
        let found = found.with(&fixed);
        keys.replace(&found);
        Ok(format!("{} keys are in force", found.len()))
    };
    let wrong = |why: String| anyhow!("{}: {why}", file.variable());
    let files = Files::read(file.variable(), vec![path]).map_err(wrong)?;
    apply(&files.contents).map_err(wrong)?;
    Ok(files.follow(Box::new(apply)))
}

/// Certificate and key, if connections are to be encrypted.
fn tls(values: &Values) -> Result<Option<(Tls, Option<Watched>)>> {
    const NAMES: &str = "TLS_CERT, TLS_KEY";
    let (certificate, key) = match (values.tls_cert.get()?, values.tls_key.get()?) {
        (None, None) => return Ok(None),
        (Some(certificate), Some(key)) => (certificate, key),
        _ => bail!("TLS_CERT and TLS_KEY go together, but only one of them is set"),
    };
    let pair =
        |contents: &[Vec<u8>]| Tls::from_pem(&contents[0], &contents[1]).map_err(|why| why.to_string());
    let wrong = |why: String| anyhow!("{NAMES}: {why}");
    let files = Files::read(NAMES.to_owned(), vec![certificate, key]).map_err(wrong)?;
    let tls = pair(&files.contents).map_err(wrong)?;
    warn_of_validity(&tls);
    let in_force = tls.clone();
    let watched = files.follow(Box::new(move |contents| {
        in_force.replace(&pair(contents)?);
        warn_of_validity(&in_force);
        Ok("new connections get the new certificate".to_owned())
    }));
    Ok(Some((tls, watched)))
}

/// What clients will refuse is no reason not to serve: their clocks may differ, and a probe may not care.
fn warn_of_validity(tls: &Tls) {
    const SETTING: &str = "TLS_CERT";
    match tls.validity().map(|validity| validity.standing()) {
        Some(Standing::Ended(days)) => {
            tracing::warn!(setting = SETTING, days_ago = days, "certificate expired, clients refuse it");
        }
        Some(Standing::NotYetValid(days)) => {
            tracing::warn!(setting = SETTING, days, "certificate not valid yet, clients refuse it");
        }
        Some(Standing::EndsSoon(days)) => {
            tracing::warn!(setting = SETTING, days_left = days, "certificate expires soon");
        }
        Some(Standing::Valid(_)) | None => {}
    }
}

/// The key that a client sends for what every caller may do: the first one.
pub(crate) fn client_key(values: &Values) -> Result<Option<String>> {
    first_of(&values.internal_api_key, &values.internal_api_key_file)
}

/// The key that a client sends to swap: the first admin key, else as for everything.
pub(crate) fn admin_client_key(values: &Values) -> Result<Option<String>> {
    let admin = first_of(&values.admin_api_key, &values.admin_api_key_file)?;
    Ok(admin.or(client_key(values)?))
}

fn first(text: &str) -> Option<String> {
    let mut keys = text.split([',', '\n']).map(str::trim);
    keys.find(|key| !key.is_empty()).map(str::to_owned)
}

fn first_of(value: &Setting, file: &TypedSetting<Option<PathBuf>>) -> Result<Option<String>> {
    if let Some(key) = first(value.text()) {
        return Ok(Some(key));
    }
    let Some(path) = file.get()? else { return Ok(None) };
    let (name, shown) = (file.variable(), path.display());
    let text = std::fs::read_to_string(&path)
        .map_err(|error| anyhow!("{name}: {shown} could not be read ({error})"))?;
    first(&text).map(Some).ok_or_else(|| anyhow!("{name}: {shown} holds no key"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_hold_secrets_and_their_debug_output_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("keys");
        std::fs::write(&file, "hush-in-a-file").unwrap();
        let pairs = "../server/tests/tls/one";
        let at = |end: &str| format!("{}/{pairs}.{end}.pem", env!("CARGO_MANIFEST_DIR"));
        let (certificate, key, file) = (at("cert"), at("key"), file.to_str().unwrap());
        let arguments = [
            ["--internal-api-key", "hush-1,hush-2"],
            ["--internal-api-key-file", file],
            ["--admin-api-key", "hush-3"],
            ["--hf-token", "hush-4"],
            ["--tls-cert", &certificate],
            ["--tls-key", &key],
        ];
        let command = clap::Command::new("samosa").no_binary_name(true).args(crate::settings::arguments());
        let matches = command.try_get_matches_from(arguments.iter().flatten()).unwrap();
        let values = Values::collect(&matches);
        let serve = crate::options::serve(&values).unwrap();
        let shown = format!("{:?} {:#?}", serve.options, serve.options);
        assert!(shown.contains("keys: 3 keys") && shown.contains("admin_keys: 1 keys"), "{shown}");
        assert!(shown.contains("\"********\"") && shown.contains("tls: Some(Tls)"), "{shown}");
        let private = std::fs::read_to_string(&key).unwrap();
        assert!(private.lines().all(|line| !shown.contains(line)) && !shown.contains("hush"), "{shown}");
        assert_eq!(serve.watched.len(), 2);
    }

    #[test]
    fn clients_send_the_first_key_that_is_set() {
        assert_eq!(first("\n , a,b"), Some("a".to_owned()));
        assert_eq!(first(" \r\n"), None);
    }
}
