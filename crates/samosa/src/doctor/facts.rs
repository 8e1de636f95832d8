//! What there is: facts about the machine, the model, the settings and the sources, gathered without a judgement.

mod handshake;
mod machine;
mod model;
mod port;
mod settings;
mod sources;

pub(super) use self::machine::{Build, MachineFacts, Speed};
pub(super) use self::model::{Hashes, Model, ModelFacts, Whole};
pub(super) use self::port::Port;
pub(super) use self::settings::{Handover, SettingsFacts};
pub(super) use self::sources::{Ask, Reach, SourceFacts, SourcesFacts, Step};
