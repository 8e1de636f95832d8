//! The two formats that scrapers ask for: OpenMetrics, and Prometheus' older text, which anything else is given.

use axum::http::{HeaderMap, header};

/// A format of the exposition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TextFormat {
    OpenMetrics,
    Plain,
}

impl TextFormat {
    /// What a scraper accepts.
    pub(crate) fn wanted(headers: &HeaderMap) -> Self {
        let mut accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        if accepted.any(|value| value.contains("application/openmetrics-text")) {
            Self::OpenMetrics
        } else {
            Self::Plain
        }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// OpenMetrics text in this format.
    pub(crate) fn of(self, open_metrics: String) -> String {
        match self {
            Self::OpenMetrics => open_metrics,
            Self::Plain => plain(&open_metrics),
        }
    }
}

/// In the older format a counter's family is named as its sample is, with `_total`, and nothing marks the end.
fn plain(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len() + 1024);
    let mut lines = open_metrics.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(help) = line.strip_prefix("# HELP ") else {
            if line != "# EOF" {
                text.extend([line, "\n"]);
            }
            continue;
        };
        let (name, words) = help.split_once(' ').unwrap_or((help, ""));
        let kind = lines.next_if(|line| line.starts_with("# TYPE ")).unwrap_or_default();
        let kind = kind.rsplit(' ').next().unwrap_or_default();
        let suffix = if kind == "counter" { "_total" } else { "" };
        text.extend(["# HELP ", name, suffix, " ", words, "\n"]);
        text.extend(["# TYPE ", name, suffix, " ", kind, "\n"]);
    }
    text
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn whoever_does_not_ask_for_openmetrics_gets_plain_text() {
        let wanted = |accept: &'static str| {
            TextFormat::wanted(&HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]))
        };
        let prometheus =
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(wanted(prometheus), TextFormat::OpenMetrics);
        assert_eq!((wanted("*/*"), wanted("text/plain")), (TextFormat::Plain, TextFormat::Plain));
        assert_eq!(TextFormat::wanted(&HeaderMap::new()), TextFormat::Plain);
    }

    #[test]
    fn counters_are_named_as_their_samples_are() {
        let text =
            "# HELP a Of a.\n# TYPE a counter\na_total{b=\"c\"} 1\n# HELP d D.\n# TYPE d gauge\nd 2\n# EOF\n";
        let expected = "# HELP a_total Of a.\n# TYPE a_total counter\na_total{b=\"c\"} 1\n\
                        # HELP d D.\n# TYPE d gauge\nd 2\n";
        assert_eq!(plain(text), expected);
    }
}
