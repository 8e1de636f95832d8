//! The settings, as far as they can be at odds with one another or with the machine.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use rustix::fs::{Access, access};
use rustix::process::{Resource, getrlimit};
use server::edge::{Standing, Validity};

use super::port::Port;
use crate::settings::{self, Origin, Values};
use crate::{edge, options, storage};

/// The settings in force.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct SettingsFacts {
    /// Variables that are set, their values as they may be shown, and where they come from.
    pub(crate) set: Vec<(String, String, &'static str)>,
    /// The same that have no secret in them, by key, defaults too.
    pub(crate) values: Vec<(&'static str, String)>,
    /// Everything that stops `serve`, a line each.
    pub(crate) wrong: Vec<String>,
    pub(crate) address: Option<SocketAddr>,
    pub(crate) port: Option<Port>,
    pub(crate) metrics_port: Option<Port>,
    pub(crate) has_keys: bool,
    pub(crate) has_admin_keys: bool,
    pub(crate) has_certificate: bool,
    /// Of the certificate, if that can be told.
    pub(crate) standing: Option<Standing>,
    /// Files that the process may have open at most.
    pub(crate) max_files: Option<u64>,
    pub(crate) handover: Option<Handover>,
}

/// What is at `HANDOVER_SOCKET`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Handover {
    /// Nothing or a socket, in a directory that can be written.
    Usable,
    /// Something that is no socket.
    Occupied,
    NotWritable,
}

impl SettingsFacts {
    pub(crate) fn look(values: &Values) -> Self {
        let set = settings::all().filter(|setting| values.get(setting.key).1 != Origin::Default);
        let set = set.map(|setting| {
            let origin = values.get(setting.key).1.name();
            (setting.variable(), values.shown(setting).to_owned(), origin)
        });
        let plain = settings::all().filter(|setting| !setting.is_secret());
        let keys = edge::read(values).ok();
        let address = address(values);
        let metrics: Option<SocketAddr> = values.text("metrics_addr").and_then(|text| text.parse().ok());
        Self {
            set: set.collect(),
            values: plain.map(|setting| (setting.key, values.shown(setting).to_owned())).collect(),
            // The storage has findings of its own among the sources.
            wrong: options::wrong(values)
                .into_iter()
                .filter(|wrong| wrong.key != Some(storage::SETTING))
                .map(|wrong| wrong.text)
                .collect(),
            address,
            port: address.filter(|address| address.port() != 0).map(Port::look),
            metrics_port: metrics.filter(|metrics| metrics.port() != 0).map(Port::look),
            has_keys: keys.as_ref().is_some_and(|(keys, ..)| !keys.is_empty()),
            has_admin_keys: keys.as_ref().is_some_and(|(_, edge, _)| !edge.admin_keys.is_empty()),
            has_certificate: values.text("tls_cert").is_some(),
            standing: values
                .text("tls_cert")
                .and_then(|path| Validity::of_pem(&std::fs::read(path).ok()?))
                .map(|validity| validity.standing()),
            max_files: getrlimit(Resource::Nofile).maximum,
            handover: values.text("handover_socket").map(|path| handover(Path::new(path))),
        }
    }

    /// The value of a setting that is no secret, as text.
    pub(crate) fn value(&self, key: &str) -> &str {
        self.values.iter().find(|(known, _)| *known == key).map_or("", |(_, value)| value)
    }

    /// Whether a setting is not at its default.
    pub(crate) fn is_set(&self, key: &str) -> bool {
        self.set.iter().any(|(variable, ..)| variable.eq_ignore_ascii_case(key))
    }

    /// The value of a setting that is yes or no.
    pub(crate) fn is_on(&self, key: &str) -> bool {
        ["true", "1", "yes"].iter().any(|word| word.eq_ignore_ascii_case(self.value(key)))
    }

    pub(crate) fn number(&self, key: &str) -> u64 {
        self.value(key).parse().unwrap_or_default()
    }
}

fn address(values: &Values) -> Option<SocketAddr> {
    values.check("host").ok()?;
    let host = values.get("host").0.parse().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    Some(SocketAddr::new(host, values.number("port").ok()? as u16))
}

/// Nothing is asked there: the running process would give its socket away.
fn handover(path: &Path) -> Handover {
    use std::os::unix::fs::FileTypeExt as _;
    if path.symlink_metadata().is_ok_and(|metadata| !metadata.file_type().is_socket()) {
        return Handover::Occupied;
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if access(directory, Access::WRITE_OK | Access::EXEC_OK).is_ok() {
        Handover::Usable
    } else {
        Handover::NotWritable
    }
}
