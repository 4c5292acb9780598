//! What Redis runs.

pub(super) const TEXT: &str = concat!(
    include_str!("script/head.lua"),
    include_str!("script/read.lua"),
    include_str!("script/write.lua"),
);

/// The name that Redis gives to [`TEXT`]: its SHA-1. A test asks Redis for it.
pub(super) const NAME: &str = "fc3f9f6351d626fcfa97f85cb091ad5ea49fe7da";
