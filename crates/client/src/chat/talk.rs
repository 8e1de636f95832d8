//! What was typed is done here, one text after the other.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;

use super::command::{ChatCommand, Home, SaveAs, help};
use super::conversation::Transcript;
use super::input::InputText;
use super::say::Say;
use super::table;
use super::turn::{TurnOutcome, turn};
use crate::api::QuestionFailure;
use crate::ask::{ModelService, Question, SamplingOptions};
use crate::swap::{SwapRequest, swap};
use crate::text::{counted, sentence, width};

/// The tags that are known, for whoever completes them.
pub(super) type Tags = Arc<Mutex<Vec<String>>>;

/// A conversation, whom it is with, and where it is shown.
pub(super) struct Talk {
    service: ModelService,
    conversation: Transcript,
    sampling: SamplingOptions,
    say: Say,
    home: Home,
    tags: Tags,
    /// The model that answered last, or serves.
    model: Option<String>,
    /// Texts that came to nothing.
    pub(super) failures: usize,
}

impl Talk {
    pub(super) fn new(
        service: ModelService,
        conversation: Transcript,
        sampling: SamplingOptions,
        say: Say,
        home: Home,
    ) -> Self {
        let tags = Tags::default();
        Self { service, conversation, sampling, say, home, tags, model: None, failures: 0 }
    }

    /// The tags that Tab completes.
    pub(super) fn tags(&self) -> Tags {
        Arc::clone(&self.tags)
    }

    /// Says whom one talks to; an error if nobody is there.
    pub(super) async fn greet(&mut self) -> Result<()> {
        let place = self.service.place();
        let models = self.service.models().await;
        let models =
            models.map_err(|failure| anyhow::anyhow!("{}: {failure}", self.service.client.url.shown("")))?;
        self.know(models.all.into_iter().map(|(tag, _)| tag).collect());
        self.model = models.current;
        let model = self.model.as_deref().unwrap_or("no model");
        self.say.note(&format!("{model} {place}. /help lists the commands, Ctrl-D leaves."));
        if self.conversation.len() > 0 || self.conversation.unanswered.is_some() {
            self.say.note(&self.loaded());
        }
        self.say.gap();
        Ok(())
    }

    fn know(&self, tags: Vec<String>) {
        *self.tags.lock().unwrap_or_else(PoisonError::into_inner) = tags;
    }

    /// Does what a text says; an error if the terminal is gone.
    pub(super) async fn take(&mut self, text: &str) -> Result<ControlFlow<()>> {
        match InputText::of(text) {
            InputText::Nothing => {}
            InputText::Message(message) => {
                self.send(message).await?;
            }
            InputText::Command(command) => match ChatCommand::parse(&command, &self.sampling) {
                Ok(ChatCommand::Quit) => return Ok(ControlFlow::Break(())),
                Ok(command) => self.obey(command).await?,
                Err(wrong) => self.fail(&wrong),
            },
        }
        Ok(ControlFlow::Continue(()))
    }

    fn fail(&mut self, why: &str) {
        self.failures += 1;
        self.say.warn(why);
    }

    async fn send(&mut self, text: String) -> Result<()> {
        let sampling = self.sampling.clone();
        self.conversation.unanswered = Some(text.clone());
        self.ask(text, sampling).await?;
        Ok(())
    }

    /// Asks for an answer to a text. Returns whether there is one.
    async fn ask(&mut self, text: String, sampling: SamplingOptions) -> Result<bool> {
        let question = Question { messages: self.conversation.question(&text), sampling };
        match turn(&self.service, &self.say, &question).await? {
            TurnOutcome::Answered(answer) => {
                self.conversation.answered(text, answer);
                return Ok(true);
            }
            TurnOutcome::Nothing => {}
            TurnOutcome::Failed => self.failures += 1,
        }
        Ok(false)
    }

    async fn obey(&mut self, command: ChatCommand) -> Result<()> {
        match command {
            ChatCommand::Help => self.say.tell(&help(width()))?,
            ChatCommand::Models => self.models().await?,
            ChatCommand::Model(tag) => self.swap(tag).await,
            ChatCommand::Show => {
                // What is not set here the service may say.
                let stats = self.service.client.stats().await.unwrap_or_default();
                self.say.tell(&table::sampling(&self.sampling, &stats))?;
            }
            ChatCommand::Set(sampling, what) => {
                self.sampling = sampling;
                self.done(&format!("{what} from now on"));
            }
            ChatCommand::System(text) => self.system(text)?,
            ChatCommand::Reset => {
                self.conversation.reset();
                self.done("A new conversation begins.");
            }
            ChatCommand::Undo => match self.conversation.undo() {
                Some(text) => self.done(&format!("Forgotten: {}", beginning(&text))),
                None => self.fail("There is nothing to undo."),
            },
            ChatCommand::Retry => self.retry().await?,
            ChatCommand::Save(file) => self.save(&file),
            ChatCommand::Load(file) => match Transcript::load(&self.home.path(&file)) {
                Ok(conversation) => {
                    self.conversation = conversation;
                    self.done(&self.loaded());
                }
                Err(why) => self.fail(&why),
            },
            ChatCommand::Stats => match self.service.client.stats().await {
                Ok(stats) => self.say.tell(&table::stats(&stats))?,
                Err(failure) => self.lost(&failure),
            },
            ChatCommand::Quit => {}
        }
        Ok(())
    }

    fn done(&self, what: &str) {
        self.say.note(what);
        self.say.gap();
    }

    fn lost(&mut self, failure: &QuestionFailure) {
        let place = self.service.client.url.shown("");
        self.fail(&sentence(&format!("{place}: {failure}")));
    }

    fn loaded(&self) -> String {
        let count = counted(self.conversation.len() as u64, "message is loaded.", "messages are loaded.");
        match &self.conversation.unanswered {
            Some(text) => {
                format!("{count} The last one has no answer yet, and /retry sends it: {}", beginning(text))
            }
            None => count,
        }
    }

    async fn models(&mut self) -> Result<()> {
        let models = match self.service.models().await {
            Ok(models) => models,
            Err(failure) => {
                self.lost(&failure);
                return Ok(());
            }
        };
        let longest = models.all.iter().map(|(tag, _)| tag.chars().count()).max().unwrap_or(0);
        let line = |(tag, source): &(String, String)| {
            let sign = if models.current.as_deref() == Some(tag) { "*" } else { " " };
            format!("{sign} {tag:longest$}  {source}").trim_end().to_owned()
        };
        let lines: Vec<String> = models.all.iter().map(line).collect();
        self.say.tell(&lines.join("\n"))?;
        self.know(models.all.into_iter().map(|(tag, _)| tag).collect());
        Ok(())
    }

    async fn swap(&mut self, tag: String) {
        match swap(&self.service.admin, &SwapRequest::of(tag.clone())).await {
            Ok(()) => {
                self.model = Some(tag);
                self.say.gap();
            }
            Err(error) => self.fail(&sentence(&format!("{error:#}"))),
        }
    }

    fn system(&mut self, text: Option<String>) -> Result<()> {
        match text.as_deref() {
            None => {
                let system = self.conversation.system.as_deref();
                return self
                    .say
                    .tell(system.unwrap_or("There are no instructions; /system TEXT gives some."));
            }
            Some("-") => {
                self.conversation.system = None;
                self.done("The instructions are gone.");
            }
            Some(_) => {
                self.conversation.system = text;
                self.done("These instructions come before the conversation from now on.");
            }
        }
        Ok(())
    }

    /// Answers the last message again. The old answer stays if no new one comes.
    async fn retry(&mut self) -> Result<()> {
        let before = self.conversation.clone();
        let is_repeated = before.unanswered.is_none();
        let Some(text) = self.conversation.undo() else {
            self.fail("There is no message to answer again.");
            return Ok(());
        };
        let mut sampling = self.sampling.clone();
        if is_repeated {
            // Small enough for readers of 53-bit numbers, as the service's own.
            sampling.seed = Some(getrandom::u64()? >> 11);
        }
        if !self.ask(text, sampling).await? {
            self.conversation = before;
        }
        Ok(())
    }

    fn save(&mut self, save: &SaveAs) {
        let nothing = self.conversation.len() == 0
            && self.conversation.unanswered.is_none()
            && self.conversation.system.is_none();
        if nothing {
            self.fail("There is nothing to save yet.");
            return;
        }
        let path = self.home.path(&save.file);
        match self.conversation.save(&path, save.format, save.existing, self.model.as_deref()) {
            Ok(()) => self.done(&format!("Written to {}.", path.display())),
            Err(why) => self.fail(&why),
        }
    }
}

/// A text's first words, on one line.
fn beginning(text: &str) -> String {
    /// Characters that are enough to know it by.
    const SOME: usize = 50;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let short: String = line.chars().take(SOME).collect();
    if short.len() < line.len() { format!("{short}…") } else { short }
}
