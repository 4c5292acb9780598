//! What Redis runs.

pub(super) const TEXT: &str = concat!(
    include_str!("script/head.lua"),
    include_str!("script/read.lua"),
    include_str!("script/write.lua"),
);

/// The name that Redis gives to [`TEXT`]: its SHA-1. A test asks Redis for it.
pub(super) const NAME: &str = "e7cf8e4460a9513a9d5ade39b56764d183cdd117";
