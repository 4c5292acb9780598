use std::{borrow::Cow, fmt, time::Duration};

use bytes::Bytes;
use fred::types::{ClusterHash, Value};

use crate::{keys, repeat};

/// A command: its name and its arguments, which may be any bytes.
///
/// ```
/// use buttress_redis::Command;
///
/// let command = Command::new("HSET").arg("user:7").arg("visits").arg(3);
/// assert!(command.is_repeatable());
/// assert!(!Command::incr("hits").is_repeatable());
/// ```
///
/// Neither `Debug` nor any error shows the arguments.
#[derive(Clone)]
pub struct Command {
    name: Cow<'static, str>,
    args: Vec<Value>,
    /// What the caller knows better than the table.
    repeatable: Option<bool>,
}

impl Command {
    /// A command of this name, which is one word: a subcommand is its first argument. Any other name is refused as
    /// [`Error::InvalidName`](crate::Error::InvalidName) when the command is to be sent.
    #[must_use]
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        let mut name = name.into();
        if name.bytes().any(|byte| byte.is_ascii_lowercase()) {
            name.to_mut().make_ascii_uppercase();
        }
        Self { name, args: Vec::new(), repeatable: None }
    }

    /// The same with one more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<Arg>) -> Self {
        self.args.push(Value::Bytes(arg.into().0));
        self
    }

    /// The same with more arguments.
    #[must_use]
    pub fn args<A: Into<Arg>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| Value::Bytes(arg.into().0)));
        self
    }

    /// The same, sent again after a lost connection though the first may have been carried out: for a script, or a
    /// command that the table does not know.
    #[must_use]
    pub fn repeatable(mut self) -> Self {
        self.repeatable = Some(true);
        self
    }

    /// The same, sent once: for a `DEL` whose answer means "it was me", for example.
    #[must_use]
    pub fn once(mut self) -> Self {
        self.repeatable = Some(false);
        self
    }

    /// Whether the command leaves the same state when it is carried out twice in a row. It is sent again after a lost
    /// connection, and a retry layer may repeat it. The table is in the crate's documentation; what it does not know
    /// is not repeatable.
    #[must_use]
    pub fn is_repeatable(&self) -> bool {
        self.repeatable.unwrap_or_else(|| repeat::is_repeatable(&self.name, &self.args))
    }

    /// The name, in upper case.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The driver takes what stands behind a space for arguments, and the tables would not know the name.
    pub(crate) fn has_valid_name(&self) -> bool {
        !self.name.is_empty() && self.name.bytes().all(|byte| byte.is_ascii_graphic())
    }

    pub(crate) fn unshareable(&self) -> Option<&'static str> {
        repeat::unshareable(&self.name, &self.args)
    }

    pub(crate) fn key(&self) -> ClusterHash {
        keys::position(&self.name, &self.args)
    }

    pub(crate) fn into_parts(self) -> (Cow<'static, str>, Vec<Value>) {
        (self.name, self.args)
    }

    /// `GET key`: the value, or nil.
    #[must_use]
    pub fn get(key: impl Into<Arg>) -> Self {
        Self::new("GET").arg(key)
    }

    /// `MGET key...`: as many values or nils. In a cluster the keys must share a slot.
    #[must_use]
    pub fn mget<A: Into<Arg>>(keys: impl IntoIterator<Item = A>) -> Self {
        Self::new("MGET").args(keys)
    }

    /// `SET key value`.
    #[must_use]
    pub fn set(key: impl Into<Arg>, value: impl Into<Arg>) -> Self {
        Self::new("SET").arg(key).arg(value)
    }

    /// `SET key value PX ttl`, in milliseconds rounded up.
    #[must_use]
    pub fn set_ex(key: impl Into<Arg>, value: impl Into<Arg>, ttl: Duration) -> Self {
        Self::set(key, value).arg("PX").arg(millis(ttl))
    }

    /// `DEL key`: how many there were.
    #[must_use]
    pub fn del(key: impl Into<Arg>) -> Self {
        Self::new("DEL").arg(key)
    }

    /// `INCR key`: the value after.
    #[must_use]
    pub fn incr(key: impl Into<Arg>) -> Self {
        Self::new("INCR").arg(key)
    }

    /// `PEXPIRE key ttl`, in milliseconds rounded up.
    #[must_use]
    pub fn expire(key: impl Into<Arg>, ttl: Duration) -> Self {
        Self::new("PEXPIRE").arg(key).arg(millis(ttl))
    }

    /// `PING`.
    #[must_use]
    pub fn ping() -> Self {
        Self::new("PING")
    }
}

/// Redis takes zero for a mistake, and reads a signed number.
fn millis(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_nanos().div_ceil(1_000_000).max(1)).unwrap_or(i64::MAX)
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({} with {} arguments)", self.name.escape_debug(), self.args.len())
    }
}

/// An argument: bytes. Numbers are written in decimal.
#[derive(Clone, PartialEq, Eq)]
pub struct Arg(Bytes);

impl fmt::Debug for Arg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Arg({} bytes)", self.0.len())
    }
}

impl From<&str> for Arg {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<&String> for Arg {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<String> for Arg {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&[u8]> for Arg {
    fn from(bytes: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(bytes))
    }
}

impl<const N: usize> From<&[u8; N]> for Arg {
    fn from(bytes: &[u8; N]) -> Self {
        Self::from(bytes.as_slice())
    }
}

impl From<Vec<u8>> for Arg {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<Bytes> for Arg {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl From<$number> for Arg {
            fn from(number: $number) -> Self {
                Self(number.to_string().into())
            }
        }
    )*};
}
numbers!(i32, u32, i64, u64, usize, f64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_shown_nowhere() {
        let command = Command::new("auth").arg("hunter2").arg(b"\xff\x00");
        assert_eq!(format!("{command:?}"), "Command(AUTH with 2 arguments)");
        assert_eq!(format!("{:?}", Arg::from("hunter2")), "Arg(7 bytes)");
    }

    #[test]
    fn times_to_live_are_rounded_up_and_never_zero() {
        assert_eq!(millis(Duration::ZERO), 1);
        assert_eq!(millis(Duration::from_nanos(1_000_001)), 2);
        assert_eq!(millis(Duration::from_secs(1)), 1000);
        assert_eq!(millis(Duration::MAX), i64::MAX);
    }

    #[test]
    fn the_caller_knows_better_than_the_table() {
        assert!(!Command::del("lock").once().is_repeatable());
        assert!(Command::incr("hits").repeatable().is_repeatable());
    }
}
