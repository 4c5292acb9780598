use std::hash::{BuildHasher, Hasher, RandomState};

/// 128 random bits, twice as many as a word.
///
/// They come from the standard library's [`RandomState`], a keyed SipHash that the operating system's generator seeds for
/// each thread, with another key for each value. The process is hashed in, so that one that was forked has others.
pub(crate) fn random_words() -> [u64; 2] {
    [0, 1].map(|number| {
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u32(std::process::id());
        hasher.write_u8(number);
        hasher.finish()
    })
}
