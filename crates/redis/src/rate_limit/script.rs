//! What Redis runs.

pub(super) const TEXT: &str = concat!(
    include_str!("script/head.lua"),
    include_str!("script/gcra.lua"),
    include_str!("script/fixed.lua"),
    include_str!("script/window.lua"),
    include_str!("script/log.lua"),
    include_str!("script/tail.lua"),
);

/// The name that Redis gives to [`TEXT`]: its SHA-1. A test asks Redis for it.
pub(super) const NAME: &str = "cf7d1f50c6da61282b07368dfe9a62c65c275164";
