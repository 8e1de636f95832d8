//! The events of `POST /generate`, as its contract has them.

use std::time::Duration;

use engine::{FinishReason, Timings, Usage};
use serde::Serialize;

use crate::events::{About, Said};
use crate::sse::{Frames, data};

/// Writes tokens, then one event for the end.
pub(crate) struct TokenFrames;

impl Frames for TokenFrames {
    fn say(&mut self, about: &About, said: Said, out: &mut Vec<u8>) {
        match said {
            Said::Token { text, .. } | Said::Text(text) => {
                if !text.is_empty() {
                    data(out, &TokenFrame { token: &text, gpu: about.worker });
                }
            }
            Said::Finished { reason, usage, timings } => {
                data(out, &DoneFrame::new(about, reason, usage, timings));
            }
            Said::Failed(_) => {}
        }
    }
}

#[derive(Serialize)]
struct TokenFrame<'a> {
    token: &'a str,
    gpu: usize,
}

#[derive(Serialize)]
struct DoneFrame<'a> {
    done: bool,
    finish_reason: &'static str,
    model_tag: &'a str,
    weights: &'a str,
    seed: u64,
    usage: UsageFields,
    timings_ms: TimingFields,
    #[serde(skip_serializing_if = "is_zero")]
    dropped_messages: usize,
}

#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the names callers read")]
struct UsageFields {
    prompt_tokens: usize,
    cached_tokens: usize,
    completion_tokens: usize,
}

#[derive(Serialize)]
struct TimingFields {
    queue: f64,
    prefill: f64,
    decode: f64,
}

impl<'a> DoneFrame<'a> {
    fn new(about: &'a About, reason: FinishReason, usage: Usage, timings: Timings) -> Self {
        // Microseconds are as fine as anybody reads.
        let ms = |duration: Duration| duration.as_micros() as f64 / 1000.0;
        Self {
            done: true,
            finish_reason: match reason {
                FinishReason::Stop | FinishReason::StopText => "stop",
                FinishReason::Length => "length",
            },
            model_tag: &about.model_tag,
            weights: &about.weights,
            seed: about.seed,
            usage: UsageFields {
                prompt_tokens: usage.prompt_tokens,
                cached_tokens: usage.cached_tokens,
                completion_tokens: usage.completion_tokens,
            },
            timings_ms: TimingFields {
                queue: ms(timings.queue),
                prefill: ms(timings.prefill),
                decode: ms(timings.decode),
            },
            dropped_messages: about.dropped_messages,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &usize) -> bool {
    *n == 0
}
