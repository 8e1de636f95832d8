//! Every bound of HTTP, in one place; printed with those of the engines at start and in `/stats`.

use std::time::Duration;

use serde_json::{Value, json};

/// Bounds.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Bytes of a request's headers, names and values.
    pub header_bytes: usize,
    /// Until a request's headers are complete, from its first byte or from the start of a connection.
    pub header_timeout: Duration,
    /// Until a request's body is complete.
    pub body_timeout: Duration,
    /// How long a connection may stay open between two requests.
    pub idle_timeout: Duration,
    /// Connections at once. Beyond them the one that has been of no use for longest makes room, and where all are
    /// in use, newcomers are refused.
    pub connections: usize,
    /// Messages of a conversation.
    pub messages: usize,
    /// Characters of a message.
    pub message_chars: usize,
    /// Characters of a conversation.
    pub conversation_chars: usize,
    /// Highest temperature.
    pub temperature: f64,
    /// Highest top_k.
    pub top_k: u64,
    /// Most tokens of an answer.
    pub max_tokens: u64,
    /// Silence after which a stream carries a comment.
    pub heartbeat: Duration,
    /// Events that may wait for a reader…
    pub unread_events: usize,
    /// …who reads nothing for this long, before the stream is ended.
    pub unread_for: Duration,
    /// Without a finished step while there is work, for this long, the service is stalled.
    pub stalled_after: Duration,
    /// And for this long, restarting it is worth a try: much longer than a slow machine needs for a step.
    pub dead_after: Duration,
    /// Open streams that `/stats` lists, the oldest first; it counts all.
    pub listed_streams: usize,
    /// Seconds that `/stats/history` remembers, and rows that it has at most.
    pub history_seconds: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 1 << 20,
            header_bytes: 16 << 10,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            connections: 1024,
            messages: 500,
            message_chars: 8_000,
            conversation_chars: 32_000,
            temperature: 2.0,
            top_k: 200,
            max_tokens: 4096,
            heartbeat: Duration::from_secs(10),
            unread_events: 256,
            unread_for: Duration::from_secs(30),
            stalled_after: Duration::from_secs(10),
            dead_after: Duration::from_mins(2),
            listed_streams: 100,
            history_seconds: 1_800,
        }
    }
}

impl Limits {
    /// All of them, with those of models and engines, by name, durations in seconds.
    pub(crate) fn to_json(&self, models: &serving::Options) -> Value {
        let (grammar, engine) = (&models.grammar, &models.engine);
        json!({
            "body_bytes": self.body_bytes,
            "header_bytes": self.header_bytes,
            "header_timeout_s": self.header_timeout.as_secs_f64(),
            "body_timeout_s": self.body_timeout.as_secs_f64(),
            "idle_timeout_s": self.idle_timeout.as_secs_f64(),
            "connections": self.connections,
            "messages": self.messages,
            "message_chars": self.message_chars,
            "conversation_chars": self.conversation_chars,
            "temperature": self.temperature,
            "top_k": self.top_k,
            "max_tokens": self.max_tokens,
            "grammar_reads": grammar.slow_reads,
            "grammar_timeout_s": grammar.deadline.as_secs_f64(),
            "grammar_bytes": grammar.memory_bytes,
            "heartbeat_s": self.heartbeat.as_secs_f64(),
            "unread_events": self.unread_events,
            "unread_for_s": self.unread_for.as_secs_f64(),
            "stalled_after_s": self.stalled_after.as_secs_f64(),
            "dead_after_s": self.dead_after.as_secs_f64(),
            "listed_streams": self.listed_streams,
            "history_seconds": self.history_seconds,
            "running_requests": engine.max_running,
            "queued_requests": engine.max_queued,
            "queued_tokens": engine.max_queued_tokens,
            "queue_timeout_s": engine.queue_timeout.as_secs_f64(),
            "request_timeout_s": engine.request_timeout.as_secs_f64(),
            "step_tokens": engine.step_tokens,
            "prefix_cache": engine.prefix_cache,
            "speculation_tokens": engine.speculation_tokens,
            "speculative_rows": engine.speculative_rows,
        })
    }
}
