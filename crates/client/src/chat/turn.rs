//! A question and its answer.

use anyhow::Result;

use super::say::Say;
use crate::ask::{AnswerFailure, AnswerStream, Done, ModelService, Question};
use crate::text::sentence;

/// What became of a question.
pub(super) enum TurnOutcome {
    /// All of the answer, or what there was of it when Ctrl-C stopped it.
    Answered(String),
    /// Nothing that could be kept.
    Nothing,
    Failed,
}

/// Asks, and shows the answer as it comes. An error only if it cannot be shown.
pub(super) async fn turn(service: &ModelService, say: &Say, question: &Question) -> Result<TurnOutcome> {
    let asked = tokio::select! {
        asked = service.ask(question) => asked,
        _ = tokio::signal::ctrl_c() => {
            say.note("stopped before the answer began; /retry sends the message again");
            say.gap();
            return Ok(TurnOutcome::Nothing);
        }
    };
    let mut answer = match asked {
        Ok(answer) => answer,
        Err(failure) => {
            say.warn(&advice(service, &failure));
            return Ok(TurnOutcome::Failed);
        }
    };
    let end = show(&mut answer, say).await?;
    let text = std::mem::take(&mut answer.text);
    let outcome = match end {
        AnswerEnd::Done(done) => {
            say.items(&done.summary(answer.first));
            tell_dropped(say, &done);
            say.gap();
            answer.close().await;
            kept(say, text)
        }
        AnswerEnd::Stopped => {
            // The service notices that nobody listens any more.
            drop(answer);
            say.note("stopped; what there is of the answer is kept");
            say.gap();
            kept(say, text)
        }
        AnswerEnd::Failed(failure) => {
            say.warn(&advice(service, &failure));
            TurnOutcome::Failed
        }
    };
    Ok(outcome)
}

/// No service takes a message without text, so such an answer cannot be part of a conversation.
fn kept(say: &Say, text: String) -> TurnOutcome {
    if text.is_empty() {
        say.warn("There was not a word in the answer, so the message is kept for /retry.");
        return TurnOutcome::Nothing;
    }
    TurnOutcome::Answered(text)
}

/// How an answer ended.
enum AnswerEnd {
    Done(Done),
    /// By Ctrl-C.
    Stopped,
    Failed(AnswerFailure),
}

async fn show(answer: &mut AnswerStream, say: &Say) -> Result<AnswerEnd> {
    let mut writer = say.writer();
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    let end = loop {
        let event = tokio::select! {
            event = answer.next() => event,
            _ = &mut interrupted => break AnswerEnd::Stopped,
        };
        let event = match event {
            Ok(event) => event,
            Err(failure) => break AnswerEnd::Failed(failure),
        };
        if let Some(token) = event.text() {
            writer.push(token)?;
        }
        if let Some(done) = event.done() {
            break AnswerEnd::Done(done);
        }
    };
    writer.end()?;
    Ok(end)
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
fn advice(service: &ModelService, failure: &AnswerFailure) -> String {
    let again = match failure {
        AnswerFailure::Denied(_) => "Start again with the right key.",
        AnswerFailure::Refused { retry_after: None, .. } => {
            "The message is not part of the conversation; Up brings it back."
        }
        _ => "/retry sends the message again.",
    };
    format!("{}{} {again}", service.prefix(), sentence(&failure.to_string()))
}
