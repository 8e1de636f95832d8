//! When a certificate ends. Of the many things in it only that is read; whether it is sound is for TLS to say.

use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SECONDS_PER_DAY: i64 = 86_400;

/// Days until the first certificate of a PEM file ends, negative if it has; `None` if that cannot be told.
pub(super) fn days_left(pem: &[u8]) -> Option<i64> {
    let certificate = CertificateDer::from_pem_slice(pem).ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs() as i64;
    Some((ends(&certificate)? - now).div_euclid(SECONDS_PER_DAY))
}

/// When it ends, in seconds since 1970: the second time of the validity (RFC 5280, 4.1).
fn ends(der: &[u8]) -> Option<i64> {
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
    let (_, _, second) = element(validity)?;
    let (kind, text, _) = element(second)?;
    seconds(kind, std::str::from_utf8(text).ok()?)
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

    #[test]
    fn a_certificate_tells_its_end_and_what_is_none_tells_nothing() {
        let pair = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(2031, 5, 17);
        let certificate = parameters.self_signed(&pair).unwrap();
        assert_eq!(ends(certificate.der()), Some(1_936_742_400));
        assert!(days_left(certificate.pem().as_bytes()).is_some());
        assert_eq!(days_left(b"no certificate"), None);
        for length in 0..certificate.der().len() {
            // Cut off anywhere, it panics nowhere.
            let _ = ends(&certificate.der()[..length]);
        }
    }
}
