//! A question and its answer.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use super::say::Say;
use crate::ask::{Answer, Done, Failure, Question, Sampling, Service};
use crate::clock;
use crate::generate::summary;

/// What became of a question.
pub(super) enum Outcome {
    /// All of the answer, or what there was of it when Ctrl-C stopped it.
    Answered(String),
    /// Nothing that could be kept.
    Nothing,
    Failed,
}

/// Asks, and shows the answer as it comes. An error only if it cannot be shown.
pub(super) async fn turn(
    service: &mut Service,
    say: &Say,
    (messages, sampling): (Value, Sampling),
) -> Result<Outcome> {
    let question = Question { messages, sampling };
    let begun = clock::now();
    let asked = tokio::select! {
        asked = service.ask(&question) => asked,
        _ = tokio::signal::ctrl_c() => {
            say.note("stopped before the answer began; /retry sends the message again");
            say.gap();
            return Ok(Outcome::Nothing);
        }
    };
    let mut answer = match asked {
        Ok(answer) => answer,
        Err(failure) => {
            say.warn(&advice(service, &failure));
            return Ok(Outcome::Failed);
        }
    };
    let shown = show(&mut answer, say, begun).await?;
    let outcome = match shown.end {
        End::Done(done) => {
            say.items(&summary(&done, shown.first.unwrap_or_default().as_secs_f64() * 1e3));
            tell_dropped(say, &done);
            say.gap();
            answer.close().await;
            kept(say, shown.text)
        }
        End::Stopped => {
            // The service notices that nobody listens any more.
            drop(answer);
            say.note("stopped; what there is of the answer is kept");
            say.gap();
            kept(say, shown.text)
        }
        End::Failed(failure) => {
            say.warn(&advice(service, &failure));
            Outcome::Failed
        }
    };
    Ok(outcome)
}

/// No service takes a message without text, so such an answer cannot be part of a conversation.
fn kept(say: &Say, text: String) -> Outcome {
    if text.is_empty() {
        say.warn("There was not a word in the answer, so the message is kept for /retry.");
        return Outcome::Nothing;
    }
    Outcome::Answered(text)
}

/// How an answer ended.
enum End {
    Done(Done),
    /// By Ctrl-C.
    Stopped,
    Failed(Failure),
}

struct Shown {
    text: String,
    /// How long its first token took.
    first: Option<Duration>,
    end: End,
}

async fn show(answer: &mut Answer, say: &Say, begun: std::time::Instant) -> Result<Shown> {
    let (mut writer, mut text, mut first) = (say.writer(), String::new(), None);
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    let end = loop {
        let event = tokio::select! {
            event = answer.next() => event,
            _ = &mut interrupted => break End::Stopped,
        };
        let event = match event {
            Ok(event) => event,
            Err(failure) => break End::Failed(failure),
        };
        first = first.or_else(|| Some(begun.elapsed()));
        if let Some(token) = event.text() {
            text.push_str(token);
            writer.push(token)?;
        }
        if let Some(done) = event.done() {
            break End::Done(done);
        }
    };
    writer.end()?;
    Ok(Shown { text, first, end })
}

fn tell_dropped(say: &Say, done: &Done) {
    let dropped = match done.dropped_messages() {
        0 => return,
        1 => "The oldest message was".to_owned(),
        n => format!("The {n} oldest messages were"),
    };
    say.note(&format!("{dropped} left out: the conversation is longer than the model's context."));
}

/// What went wrong, and what to do about it.
fn advice(service: &Service, failure: &Failure) -> String {
    let place =
        if service.is_here() { String::new() } else { format!("{}: ", service.server.way.place.url("")) };
    let again = match failure {
        Failure::Denied(_) => "Start again with the right key.",
        Failure::Refused { retry_after: None, .. } => {
            "The message is not part of the conversation; Up brings it back."
        }
        _ => "/retry sends the message again.",
    };
    format!("{place}{} {again}", crate::swap::sentence(&failure.to_string()))
}
