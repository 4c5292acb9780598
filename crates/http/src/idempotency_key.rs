use std::{error::Error as StdError, fmt};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::random::random_words;

/// The value of an `Idempotency-Key` header: by it a server knows a request again that it has carried out already, and
/// answers as it did then. With one, [`Idempotent`](crate::Idempotent) repeats requests of any method.
///
/// A server that is still at work on the first request answers 409 to another with its key: that answer is the call's.
///
/// It is made where the request is made, once for all attempts, and only for a server that promises to heed it. In the
/// header it is a string of RFC 9651 in quotes (draft-ietf-httpapi-idempotency-key-header, 2.1). As it is as good as a
/// password for the answer, it is marked sensitive: `Debug` does not show it, and HTTP/2 does not index it.
///
/// ```
/// use buttress_http::{Body, IdempotencyKey};
/// use http::Request;
///
/// let request = Request::post("http://bank.internal/transfers")
///     .header(IdempotencyKey::HEADER, IdempotencyKey::random())
///     .body(Body::from("100"))?;
/// # let _ = request;
/// # Ok::<_, http::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct IdempotencyKey(HeaderValue);

impl IdempotencyKey {
    /// The header's name.
    pub const HEADER: HeaderName = HeaderName::from_static("idempotency-key");

    /// A key that nobody has used: a UUID of version 4 (RFC 9562), as servers expect it, of 122 random bits.
    ///
    /// They come from the standard library's [`RandomState`](std::hash::RandomState), a keyed SipHash that the operating system's generator
    /// seeds for each thread; the process is hashed in, so that one that was forked makes others. That is enough for
    /// keys to be unique and for nobody to guess them by accident. It is no promise of cryptography: where strangers share
    /// a server's space of keys, take a key from a generator made for secrets by [`try_new`](Self::try_new).
    #[must_use]
    pub fn random() -> Self {
        let [high, low] = random_words();
        let high = high & !0xf000 | 0x4000;
        let low = low & !(0b11 << 62) | 0b10 << 62;
        let text = format!(
            "\"{:08x}-{:04x}-{:04x}-{:04x}-{:012x}\"",
            high >> 32,
            high >> 16 & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff
        );
        Self::from_quoted(text)
    }

    /// A key of one's own, such as the number of an order: what is one operation must have one key, also after a restart.
    ///
    /// # Errors
    /// Where it is empty, longer than 255 bytes, or holds what is not printable ASCII.
    pub fn try_new(key: &str) -> Result<Self, InvalidIdempotencyKey> {
        if !(1..=255).contains(&key.len()) || !key.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(InvalidIdempotencyKey(()));
        }
        let mut text = String::with_capacity(key.len() + 2);
        text.push('"');
        for char in key.chars() {
            if matches!(char, '"' | '\\') {
                text.push('\\');
            }
            text.push(char);
        }
        text.push('"');
        Ok(Self::from_quoted(text))
    }

    fn from_quoted(text: String) -> Self {
        let mut value = HeaderValue::try_from(text).expect("printable ASCII");
        value.set_sensitive(true);
        Self(value)
    }

    /// Whether there is one that says something.
    pub(crate) fn is_in(headers: &HeaderMap) -> bool {
        headers.get(Self::HEADER).is_some_and(|key| !matches!(key.as_bytes().trim_ascii(), b"" | b"\"\""))
    }
}

impl TryFrom<&str> for IdempotencyKey {
    type Error = InvalidIdempotencyKey;

    fn try_from(key: &str) -> Result<Self, InvalidIdempotencyKey> {
        Self::try_new(key)
    }
}

impl TryFrom<&String> for IdempotencyKey {
    type Error = InvalidIdempotencyKey;

    fn try_from(key: &String) -> Result<Self, InvalidIdempotencyKey> {
        Self::try_new(key)
    }
}

impl TryFrom<String> for IdempotencyKey {
    type Error = InvalidIdempotencyKey;

    fn try_from(key: String) -> Result<Self, InvalidIdempotencyKey> {
        Self::try_new(&key)
    }
}

impl From<IdempotencyKey> for HeaderValue {
    fn from(key: IdempotencyKey) -> Self {
        key.0
    }
}

impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IdempotencyKey").field(&self.0).finish()
    }
}

/// An idempotency key must be 1 to 255 characters of printable ASCII.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidIdempotencyKey(());

impl fmt::Display for InvalidIdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an idempotency key must be 1 to 255 characters of printable ASCII")
    }
}

impl StdError for InvalidIdempotencyKey {}
