//! When a certificate is valid. Of the many things in it only that is read; whether it is sound is for TLS to say.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SECONDS_PER_DAY: i64 = 86_400;
const SOON_DAYS: i64 = 14;

/// When all certificates of a chain are valid: clients refuse it before and after. In seconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Validity {
    /// The latest beginning.
    pub begins: i64,
    /// The earliest end.
    pub ends: i64,
}

/// What that means today. Days are whole ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Valid in so many days, rounded up.
    NotYetValid(i64),
    /// For so many days.
    Valid(i64),
    /// It ends within two weeks, or has less than a third of its life left where that is shorter.
    EndsSoon(i64),
    /// So many days ago.
    Ended(i64),
}

impl Validity {
    /// That of a chain in PEM; `None` if its first certificate cannot be read.
    pub fn of_pem(pem: &[u8]) -> Option<Self> {
        Self::of_chain(&CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect::<Vec<_>>())
    }

    pub(super) fn of_chain(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let (own, issuers) = chain.split_first()?;
        let shorter = |a: Self, b: Self| Self { begins: a.begins.max(b.begins), ends: a.ends.min(b.ends) };
        Some(issuers.iter().filter_map(|issuer| of_der(issuer)).fold(of_der(own)?, shorter))
    }

    /// What it means now.
    pub fn standing(&self) -> Standing {
        self.standing_at(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs() as i64))
    }

    fn standing_at(&self, now: i64) -> Standing {
        let days = |seconds: i64| seconds / SECONDS_PER_DAY;
        let (wait, left) = (self.begins - now, self.ends - now);
        if left < 0 {
            Standing::Ended(days(-left))
        } else if wait > 0 {
            Standing::NotYetValid(days(wait + SECONDS_PER_DAY - 1))
        } else if left < (SOON_DAYS * SECONDS_PER_DAY).min((self.ends - self.begins) / 3) {
            Standing::EndsSoon(days(left))
        } else {
            Standing::Valid(days(left))
        }
    }
}

/// Both times of the validity (RFC 5280, 4.1).
fn of_der(der: &[u8]) -> Option<Validity> {
    let (_, certificate, _) = element(der)?;
    let (_, mut rest, _) = element(certificate)?;
    // The version may be missing; serial number, algorithm and issuer come before the validity.
    if rest.first() == Some(&VERSION) {
        rest = element(rest)?.2;
    }
    for _ in 0..3 {
        rest = element(rest)?.2;
    }
    let (SEQUENCE, validity, _) = element(rest)? else { return None };
    let (kind, begins, rest) = element(validity)?;
    let begins = seconds(kind, std::str::from_utf8(begins).ok()?)?;
    let (kind, ends, _) = element(rest)?;
    Some(Validity { begins, ends: seconds(kind, std::str::from_utf8(ends).ok()?)? })
}

/// Tag, contents and what follows of the first element.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, length], rest) = der.split_first_chunk()?;
    let (length, rest) = if length < 0x80 {
        (usize::from(length), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
        if bytes.is_empty() || bytes.len() > 4 {
            return None;
        }
        (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    Some((tag, contents, rest))
}

/// `YYMMDDHHMMSSZ`, or the same with four digits of the year.
fn seconds(kind: u8, text: &str) -> Option<i64> {
    let (year, rest) = text.split_at_checked(match kind {
        UTC_TIME => 2,
        GENERALIZED_TIME => 4,
        _ => return None,
    })?;
    let year: i64 = year.parse().ok()?;
    let year = match kind {
        UTC_TIME if year < 50 => 2000 + year,
        UTC_TIME => 1900 + year,
        _ => year,
    };
    let number = |at: usize| rest.get(at..at + 2)?.parse::<i64>().ok();
    let days = days_since_1970(year, number(0)?, number(2)?);
    Some(days * SECONDS_PER_DAY + number(4)? * 3600 + number(6)? * 60 + number(8)?)
}

/// In the Gregorian calendar. Years are counted from March, so that the day that may be missing is the last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_since_1970() {
        assert_eq!(seconds(UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(seconds(UTC_TIME, "260228235959Z"), Some(1_772_323_199));
        assert_eq!(seconds(GENERALIZED_TIME, "20240229120000Z"), Some(1_709_208_000));
        assert_eq!(seconds(GENERALIZED_TIME, "20500101000000Z"), Some(2_524_608_000));
        assert_eq!(seconds(UTC_TIME, "26"), None);
        assert_eq!(seconds(0x02, "260228235959Z"), None);
    }

    const PEM: &str = include_str!("../../tests/tls/one.cert.pem");

    #[test]
    fn a_certificate_tells_its_validity_and_what_is_none_tells_nothing() {
        // `openssl x509 -dates -in one.cert.pem`
        let validity = Validity { begins: 1_577_836_800, ends: 4_733_510_400 };
        assert_eq!(Validity::of_pem(PEM.as_bytes()), Some(validity));
        assert_eq!(Validity::of_pem(b"no certificate"), None);
        let der = CertificateDer::from_pem_slice(PEM.as_bytes()).unwrap();
        for length in 0..der.len() {
            // Cut off anywhere, it panics nowhere.
            let _ = of_der(&der[..length]);
        }
    }

    #[test]
    fn standings_change_at_the_second_and_days_are_whole_ones() {
        const DAY: i64 = SECONDS_PER_DAY;
        let long = Validity { begins: 10 * DAY, ends: 100 * DAY };
        for (now, standing) in [
            (8 * DAY - 1, Standing::NotYetValid(3)),
            (10 * DAY - 1, Standing::NotYetValid(1)),
            (10 * DAY, Standing::Valid(90)),
            (86 * DAY, Standing::Valid(14)),
            (86 * DAY + 1, Standing::EndsSoon(13)),
            (100 * DAY, Standing::EndsSoon(0)),
            (100 * DAY + 1, Standing::Ended(0)),
            (102 * DAY, Standing::Ended(2)),
        ] {
            assert_eq!(long.standing_at(now), standing, "{now}");
        }
        let short = Validity { begins: 0, ends: 6 * DAY };
        assert_eq!(short.standing_at(4 * DAY), Standing::Valid(2), "renewed each week, it always ends soon");
        assert_eq!(short.standing_at(4 * DAY + 1), Standing::EndsSoon(1));
    }
}
