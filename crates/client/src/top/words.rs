//! Numbers as short words.

/// A number in such words, or a dash where there is none.
pub(super) fn figure(number: Option<f64>, words: fn(f64) -> String) -> String {
    number.map_or_else(|| "–".to_owned(), words)
}

/// A whole number: `512`, `12.3k`, `4.5M`.
pub(super) fn count(number: f64) -> String {
    match number {
        n if n < 10_000.0 => format!("{n:.0}"),
        n if n < 999_950.0 => format!("{:.1}k", n / 1e3),
        n if n < 999_950_000.0 => format!("{:.1}M", n / 1e6),
        n => format!("{:.1}G", n / 1e9),
    }
}

/// A rate: with a decimal as long as that says something.
pub(super) fn rate(number: f64) -> String {
    if number > 0.0 && number < 99.95 { format!("{number:.1}") } else { count(number) }
}

/// Milliseconds, of which a table says that they are, up to ten seconds.
pub(super) fn ms(number: f64) -> String {
    match number {
        n if n < 9.995 => format!("{n:.2}"),
        n if n < 99.95 => format!("{n:.1}"),
        n if n < 9999.5 => format!("{n:.0}"),
        n => format!("{:.1} s", n / 1e3),
    }
}

/// A stretch of time in its two largest units.
pub(super) fn time(seconds: f64) -> String {
    let seconds = seconds as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min {} s", seconds % 60),
        3600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// A share of one.
pub(super) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let counts = [0.0, 9999.0, 10_000.0, 524_288.0, 999_990.0, 1.5e9].map(count);
        assert_eq!(counts, ["0", "9999", "10.0k", "524.3k", "1.0M", "1.5G"]);
        assert_eq!([0.0, 0.04, 12.34, 421.3].map(rate), ["0", "0.0", "12.3", "421"]);
        assert_eq!([0.5, 2.134, 12.34, 180.2, 12_345.0].map(ms), ["0.50", "2.13", "12.3", "180", "12.3 s"]);
        let times = [7.9, 61.0, 7260.0, 90_000.0].map(time);
        assert_eq!(times, ["7 s", "1 min 1 s", "2 h 1 min", "1 d 1 h"]);
    }
}
