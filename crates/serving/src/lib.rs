//! Models in service, without HTTP: which model serves, how the next one takes over, who waits meanwhile.
//!
//! Reading order: [`options`], [`models`] (the model in service and what all engines are doing), [`served_model`] (one
//! model with its engines), [`load`], [`plan`] (whether it fits in memory), [`self_test`], [`swap`] (how a swap is requested
//! and run) with [`transaction`] (which phase is next) and [`phases`] (what each does), [`swaps`] and [`swap_status`] (what is
//! known of swaps), [`swap_gate`] (requests wait while no model serves), [`totals`] (counts over all engines), [`error`]. Errors carry data; statuses and wire formats are the server's.

#![forbid(unsafe_code)]

pub mod error;
pub mod load;
pub mod models;
pub mod options;
pub mod plan;
pub mod self_test;
pub mod served_model;
pub mod swap;
pub mod swap_status;
pub mod totals;
pub mod transaction;

mod phases;
mod swap_gate;
mod swaps;

pub use error::{AdmitError, GrammarError, SwapError};
pub use load::LoadedModel;
pub use models::Models;
pub use options::Options;
pub use served_model::ServedModel;
pub use swap::{Precondition, RequestedSwap};
pub use swap_status::{SwapObserver, SwapStatus};
