#[cfg(any(feature = "postgres", feature = "redis"))]
mod database;
#[cfg(feature = "http")]
mod http;
mod plain;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "postgres")]
mod verb;

use std::borrow::Cow;

use buttress_core::Rejected;

#[cfg(feature = "http")]
pub use self::http::{HttpClient, HttpServer, ServerStatus, UrlTemplate};
pub use self::plain::Plain;
#[cfg(feature = "postgres")]
pub use self::postgres::PostgresConvention;
#[cfg(feature = "redis")]
pub use self::redis::RedisConvention;

/// What the calls of one kind are called in metrics and spans.
pub trait Convention {
    /// The histogram's name, as OpenTelemetry's semantic conventions give it: `http.client.request.duration`.
    fn metric(&self) -> &'static str;

    /// On which side of a call this is.
    fn side(&self) -> Side;

    /// The attributes that all calls have in common. Asked for once, when the layer is made.
    fn common(&self) -> Vec<(&'static str, Label)> {
        Vec::new()
    }
}

/// Tells what single calls are, by a [`Convention`].
///
/// Whatever tells one series from another has to come from a small set: the layer keeps a bounded number of operations,
/// and counts what is above it as `_OTHER`. Never tell calls apart by ids, addresses of clients or whatever else a caller
/// may choose freely.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not know calls of `{Req}` that end with `Result<{Res}, {Err}>`",
    note = "`Plain`, the default, asks for `{Err}: Rejectable`; `HttpServer` takes any error"
)]
pub trait Describe<Req, Res, Err>: Convention {
    /// What a request calls. It runs for every call: it must not allocate.
    fn operation<'a>(&'a self, request: &'a Req) -> Operation<'a>;

    /// How a call ended, beyond what the classifier says. It runs for every call: it must not allocate. (It takes no `self`,
    /// so that the future of a call need not hold the convention.)
    fn end(result: &Result<Res, Err>) -> Ended<'_>;
}

/// On which side of a call something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Side {
    /// It calls something outside.
    Client,
    /// It is called from outside.
    Server,
    /// Neither.
    Internal,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Label {
    /// A word.
    Text(Cow<'static, str>),
    /// A number, such as a port or a status.
    Number(i64),
}

/// What a request calls: up to four attributes that tell it from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Operation<'a>(Option<Attributes<'a>>);

/// Not there where there is none: what tells no operations apart should not pay for the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Attributes<'a> {
    all: [(&'static str, Piece<'a>); 4],
    /// How many of them are there.
    len: usize,
    /// How many of them, from the first on, make the name for people.
    named_by: usize,
}

impl<'a> Operation<'a> {
    /// All requests are alike.
    #[must_use]
    #[inline]
    pub const fn new() -> Self {
        Self(None)
    }

    /// The same with an attribute that is part of the name for people: `GET /users/{id}` are two. Text that is empty is left
    /// out, and so is a fifth attribute.
    #[must_use]
    #[inline]
    pub fn named(self, attribute: &'static str, value: impl Into<Piece<'a>>) -> Self {
        self.with_attribute(attribute, value.into(), 1)
    }

    /// The same with an attribute. Those that name it come first.
    #[must_use]
    #[inline]
    pub fn with(self, attribute: &'static str, value: impl Into<Piece<'a>>) -> Self {
        self.with_attribute(attribute, value.into(), 0)
    }

    #[inline]
    fn with_attribute(self, attribute: &'static str, value: Piece<'a>, named_by: usize) -> Self {
        let mut attributes = self.0.unwrap_or_default();
        if value == Piece::Text("") || attributes.len == attributes.all.len() {
            return self;
        }
        attributes.all[attributes.len] = (attribute, value);
        attributes.len += 1;
        attributes.named_by += named_by;
        Self(Some(attributes))
    }

    /// The attributes, in their order.
    #[must_use]
    #[inline]
    pub fn attributes(&self) -> &[(&'static str, Piece<'a>)] {
        match &self.0 {
            Some(attributes) => &attributes.all[..attributes.len],
            None => &[],
        }
    }

    pub(crate) fn names(&self) -> &[(&'static str, Piece<'a>)] {
        match &self.0 {
            Some(attributes) => &attributes.all[..attributes.named_by],
            None => &[],
        }
    }
}

/// The value of an attribute, as it is found in a request or an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Piece<'a> {
    /// A word.
    Text(&'a str),
    /// A number.
    Number(i64),
}

impl Piece<'_> {
    pub(crate) fn to_label(self) -> Label {
        match self {
            Self::Text(text) => Label::Text(Cow::Owned(text.to_owned())),
            Self::Number(number) => Label::Number(number),
        }
    }

    #[inline]
    pub(crate) fn is(self, label: &Label) -> bool {
        match (self, label) {
            (Self::Text(own), Label::Text(other)) => own == other,
            (Self::Number(own), Label::Number(other)) => own == *other,
            _ => false,
        }
    }
}

impl Default for Piece<'_> {
    fn default() -> Self {
        Self::Text("")
    }
}

impl<'a> From<&'a str> for Piece<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Piece<'_> {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

/// How a call ended, beyond what its classifier says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Ended<'a> {
    /// The status and its attribute: `("http.response.status_code", 200)`, `("db.response.status_code", "40001")`.
    pub status: Option<(&'static str, Piece<'a>)>,
    /// The kind of error, for `error.type`, where this was one.
    pub error: Option<&'a str>,
    /// Whether a layer of ours refused the call or gave it up.
    pub is_rejected: bool,
}

impl<'a> Ended<'a> {
    /// There is nothing more to say.
    #[must_use]
    pub const fn new() -> Self {
        Self { status: None, error: None, is_rejected: false }
    }

    /// A layer refused the call or gave it up.
    #[must_use]
    pub const fn rejected(rejected: &Rejected) -> Self {
        Self { status: None, error: Some(rejected.reason().as_str()), is_rejected: true }
    }

    /// The same with a status.
    #[must_use]
    pub fn with_status(mut self, attribute: &'static str, status: impl Into<Piece<'a>>) -> Self {
        self.status = Some((attribute, status.into()));
        self
    }

    /// The same with a kind of error.
    #[must_use]
    pub const fn with_error(mut self, kind: &'a str) -> Self {
        self.error = Some(kind);
        self
    }
}
