//! Models in service, without HTTP: which model serves, how the next one takes over, who waits meanwhile.
//!
//! Reading order: [`options`], [`models`] (the model in service and what all engines are doing), [`served_model`] (one
//! model with its engines), [`swap`] (how a swap is requested and run) with [`phases`] (what each of its phases does),
//! [`swaps`] and [`swap_status`] (what is known of swaps), [`swap_gate`] (requests wait while no model serves),
//! [`totals`] (counts over all engines), [`error`]. Errors carry data; statuses and wire formats are the server's.

#![forbid(unsafe_code)]

pub mod error;
pub mod models;
pub mod options;
pub mod served_model;
pub mod swap;
pub mod swap_status;
pub mod totals;

mod phases;
mod swap_gate;
mod swaps;

pub use error::{AdmitError, GrammarError, SwapError};
pub use models::Models;
pub use options::Options;
pub use served_model::ServedModel;
pub use swap::{Precondition, RequestedSwap};
pub use swap_status::{SwapObserver, SwapStatus};
