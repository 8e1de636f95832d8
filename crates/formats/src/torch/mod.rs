//! What `torch.save` wrote: a container, a pickle that describes tensors, and storages.
//!
//! `zip` and `legacy` are the two containers, `pickle` turns a pickle into an inert tree, and `storage` finds
//! tensors in that tree. Nothing here executes a pickle; a global is a member of a closed list or an error.
//! The tokenizer's pickle goes through the same machine, from `crate::tokenizer_pickle`.

pub(crate) mod zip;

pub(crate) mod legacy;

pub(crate) mod pickle;

pub(crate) mod storage;

pub(crate) use legacy::read_legacy;
pub(crate) use zip::read_zip;
