//! Traces: what a request or a swap spent its time on, as spans for whoever collects them.
//!
//! A caller's `traceparent` (W3C Trace Context) says which trace a request belongs to and whether anybody looks at it;
//! the answer carries one too. Spans are made when all is over, from times that were taken anyway.

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use axum::http::HeaderMap;

use crate::random::random_u64;

pub(crate) const TRACEPARENT: &str = "traceparent";
/// Bytes of a traceparent of version 00, and where its parts are.
const LENGTH: usize = 55;

/// Where spans go.
pub trait Collector: Send + Sync + fmt::Debug {
    /// Takes a span that is over. Must not block.
    fn collect(&self, span: TraceSpan);
}

/// The value of an attribute.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SpanValue {
    /// A text.
    Text(String),
    /// A count.
    Count(u64),
}

/// Something that took time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TraceSpan {
    /// The trace it belongs to.
    pub trace: u128,
    /// Its own id.
    pub id: u64,
    /// The span it is a part of.
    pub parent: Option<u64>,
    /// Whether it answers somebody else's request; its parent is then theirs.
    pub serves: bool,
    /// What it is.
    pub name: String,
    /// When it began.
    pub begin: SystemTime,
    /// When it was over.
    pub end: SystemTime,
    /// What else is known, by OpenTelemetry's names where it has some.
    pub attributes: Vec<(&'static str, SpanValue)>,
    /// What went wrong, as a code.
    pub error: Option<String>,
}

/// A request's place in a trace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TraceContext {
    pub(crate) trace: u128,
    /// The span of this request here.
    pub(crate) span: u64,
    /// The caller's span.
    parent: Option<u64>,
    /// Whether anybody looks at the trace.
    pub(crate) sampled: bool,
}

impl TraceContext {
    /// From `traceparent`; else a new trace, under the id that the caller gave if it can be one.
    pub(crate) fn read(headers: &HeaderMap, id: Option<&str>) -> Self {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let given = values.next().and_then(|value| value.to_str().ok()).and_then(Self::parse);
        // Two of them say nothing.
        given.filter(|_| values.next().is_none()).unwrap_or_else(|| {
            let trace = id.and_then(trace_id).unwrap_or_else(new_trace);
            Self { trace, span: new_span(), parent: None, sampled: true }
        })
    }

    /// A trace of our own making.
    pub(crate) fn new() -> Self {
        Self { trace: new_trace(), span: new_span(), parent: None, sampled: true }
    }

    fn parse(text: &str) -> Option<Self> {
        let version = hex(text.get(..2)?)?;
        let whole = text.len() == LENGTH || (version > 0 && text.as_bytes().get(LENGTH) == Some(&b'-'));
        let dashes = [2, 35, 52].iter().all(|&i| text.as_bytes().get(i) == Some(&b'-'));
        if version == 0xff || !whole || !dashes {
            return None;
        }
        let (trace, parent, flags) =
            (hex(text.get(3..35)?)?, hex(text.get(36..52)?)? as u64, hex(text.get(53..55)?)?);
        let context = Self { trace, span: new_span(), parent: Some(parent), sampled: flags & 1 == 1 };
        (trace != 0 && parent != 0).then_some(context)
    }

    /// What the answer carries: this request's own span.
    pub(crate) fn traceparent(&self) -> String {
        format!("00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }

    /// Whether the caller named the trace.
    pub(crate) fn is_given(&self) -> bool {
        self.parent.is_some()
    }

    /// The span that answers this request.
    pub(crate) fn root(&self, name: String, begin: Instant, end: Instant) -> TraceSpan {
        TraceSpan { id: self.span, parent: self.parent, serves: true, ..self.child(name, begin, end) }
    }

    /// A part of it.
    pub(crate) fn child(&self, name: impl Into<String>, begin: Instant, end: Instant) -> TraceSpan {
        TraceSpan {
            trace: self.trace,
            id: new_span(),
            parent: Some(self.span),
            serves: false,
            name: name.into(),
            begin: wall(begin),
            end: wall(end),
            attributes: Vec::new(),
            error: None,
        }
    }
}

impl TraceSpan {
    /// With a text, unless it is empty.
    #[must_use]
    pub(crate) fn text(mut self, name: &'static str, value: impl Into<String>) -> Self {
        let value = value.into();
        if !value.is_empty() {
            self.attributes.push((name, SpanValue::Text(value)));
        }
        self
    }

    /// With a count.
    #[must_use]
    pub(crate) fn count(mut self, name: &'static str, value: usize) -> Self {
        self.attributes.push((name, SpanValue::Count(value as u64)));
        self
    }
}

/// What an answer's engine told of its stages: as far as they came.
#[derive(Clone, Copy)]
pub(crate) struct Stages {
    pub(crate) begun: Instant,
    pub(crate) admitted: Option<Instant>,
    pub(crate) first_token: Option<Instant>,
    pub(crate) ended: Instant,
}

impl Stages {
    /// Queue, prefill and decode, those that began.
    pub(crate) fn spans(&self, context: &TraceContext) -> impl Iterator<Item = TraceSpan> {
        let Self { begun, admitted, first_token, ended } = *self;
        let queue = context.child("queue", begun, admitted.unwrap_or(ended));
        let prefill = admitted.map(|at| context.child("prefill", at, first_token.unwrap_or(ended)));
        let decode = first_token.map(|at| context.child("decode", at, ended));
        [Some(queue), prefill, decode].into_iter().flatten()
    }
}

/// The time of day of an instant, as today's clock has it.
fn wall(at: Instant) -> SystemTime {
    let now = SystemTime::now();
    now.checked_sub(at.elapsed()).unwrap_or(now)
}

/// A span of a phase that is over, from its wall time.
pub(crate) fn phase(
    context: &TraceContext,
    name: &'static str,
    begin: SystemTime,
    took: Duration,
) -> TraceSpan {
    TraceSpan {
        trace: context.trace,
        id: new_span(),
        parent: Some(context.span),
        serves: false,
        name: name.to_owned(),
        begin,
        end: begin + took,
        attributes: Vec::new(),
        error: None,
    }
}

/// An id of a caller's that is a trace's: 32 hexadecimal digits, or a UUID.
fn trace_id(id: &str) -> Option<u128> {
    let digits: String = id.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect();
    hex(&digits).filter(|trace| digits.len() == 32 && *trace != 0)
}

/// Lower-case digits only, as the standard has it.
fn hex(digits: &str) -> Option<u128> {
    let plain = digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    u128::from_str_radix(digits, 16).ok().filter(|_| plain)
}

fn new_trace() -> u128 {
    (u128::from(random_u64()) << 64 | u128::from(random_u64())).max(1)
}

fn new_span() -> u64 {
    random_u64().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn with(values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_callers_trace_is_gone_on_with() {
        let context = TraceContext::read(&with(&[GIVEN]), None);
        assert_eq!(context.trace, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!((context.parent, context.sampled), (Some(0x00f0_67aa_0ba9_02b7), true));
        let answered = context.traceparent();
        assert!(answered.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && answered.ends_with("-01"));
        assert_ne!(answered, GIVEN, "the span is our own");
        let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-more";
        let context = TraceContext::parse(later).unwrap();
        assert!(!context.sampled, "a later version may say more");
    }

    #[test]
    fn what_is_no_traceparent_begins_a_new_trace() {
        for wrong in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736+00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(wrong), None, "{wrong}");
        }
        assert!(!TraceContext::read(&with(&[GIVEN, GIVEN]), None).is_given(), "two contradict each other");
        let id = "4bf92f35-77b3-4da6-a3ce-929d0e0e4736";
        let context = TraceContext::read(&HeaderMap::new(), Some(id));
        assert_eq!(context.trace, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, "a UUID can be a trace's id");
        let other = TraceContext::read(&HeaderMap::new(), Some("request-7"));
        assert!(other.trace != 0 && other.trace != context.trace && other.sampled);
    }
}
