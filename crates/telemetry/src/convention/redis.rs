use std::borrow::Cow;

use buttress_redis::{Command, Error};

use super::database::{Database, OTHER};
use crate::{Convention, Describe, Ended, Label, Operation, Side};

/// The semantic conventions for Redis, for a service of [`Command`] in `buttress-redis`: the histogram
/// `db.client.operation.duration`.
///
/// | attribute | value |
/// |---|---|
/// | `db.system.name` | `redis` |
/// | `db.namespace` | the database's index, as it was given to [`new`](Self::new) |
/// | `db.operation.name` | the command: `GET`, `HSET`, ... A name that is no word of at most 32 letters, as Redis' own and those of modules are (`JSON.GET`), is `_OTHER` |
/// | `db.response.status_code` | the prefix of a server's error, such as `WRONGTYPE` or `CLUSTERDOWN`; one that Redis itself does not have is `_OTHER` |
/// | `error.type` | the same, or `connection`, `decode`, `unshareable`, `invalid_name` |
/// | `server.address`, `server.port` | what [`server`](Self::server) says, if anything |
///
/// No argument of a command is ever in it, keys included.
///
/// Sources: OpenTelemetry semantic conventions, *Database client metrics* (stable) and *Redis client operations* (in
/// development).
#[derive(Debug, Clone)]
pub struct RedisConvention(Database);

impl RedisConvention {
    /// For calls to the database of this index: 0 unless the address says otherwise, and always in a cluster.
    #[must_use]
    pub fn new(database: u8) -> Self {
        Self(Database::new("redis", database.to_string().into()))
    }

    /// The same with the server's name, and its port where it is not 6379. There must be no credentials in it.
    #[must_use]
    pub fn server(self, address: impl Into<Cow<'static, str>>, port: u16) -> Self {
        Self(self.0.server(address.into(), (port != 6379).then_some(port)))
    }
}

impl Convention for RedisConvention {
    fn metric(&self) -> &'static str {
        Database::METRIC
    }

    fn side(&self) -> Side {
        Side::Client
    }

    fn common(&self) -> Vec<(&'static str, Label)> {
        self.0.common()
    }
}

impl<Res> Describe<Command, Res, Error> for RedisConvention {
    fn operation<'a>(&'a self, request: &'a Command) -> Operation<'a> {
        let name = if is_command(request.name()) { request.name() } else { OTHER };
        Operation::new().named("db.operation.name", name)
    }

    fn end(result: &Result<Res, Error>) -> Ended<'_> {
        ended(result)
    }
}

fn ended<Res>(result: &Result<Res, Error>) -> Ended<'_> {
    let error = match result {
        Ok(_) => return Ended::new(),
        Err(Error::Rejected(rejected)) => return Ended::rejected(rejected),
        Err(Error::Server(error)) => {
            let code = prefix(error.code());
            return Ended::new().with_status("db.response.status_code", code).with_error(code);
        }
        Err(error) => error,
    };
    let kind = match error {
        Error::Connection(_) => "connection",
        Error::Decode(_) => "decode",
        Error::Unshareable(_) => "unshareable",
        Error::InvalidName => "invalid_name",
        _ => OTHER,
    };
    Ended::new().with_error(kind)
}

/// Whoever passes a name on that a client chose may pass on anything.
fn is_command(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=32).contains(&name.len()) && name.bytes().all(is_letter)
}

/// A script may answer with any prefix, so only those of Redis' own sources are told from each other.
fn prefix(code: &str) -> &'static str {
    PREFIXES.into_iter().find(|known| *known == code).unwrap_or(OTHER)
}

const PREFIXES: [&str; 26] = [
    "ERR",
    "WRONGTYPE",
    "MOVED",
    "ASK",
    "TRYAGAIN",
    "CROSSSLOT",
    "CLUSTERDOWN",
    "LOADING",
    "BUSY",
    "BUSYKEY",
    "BUSYGROUP",
    "NOGROUP",
    "UNBLOCKED",
    "OOM",
    "READONLY",
    "MASTERDOWN",
    "NOREPLICAS",
    "NOGOODSLAVE",
    "MISCONF",
    "NOAUTH",
    "WRONGPASS",
    "NOPERM",
    "NOSCRIPT",
    "NOTBUSY",
    "EXECABORT",
    "NOPROTO",
];

#[cfg(test)]
mod tests {
    use buttress_core::{Origin, Reason};
    use buttress_redis::fred::error::{Error as DriverError, ErrorKind};
    use buttress_testkit::allocations;

    use super::*;
    use crate::Piece;

    fn name(command: &Command) -> String {
        let convention = RedisConvention::new(0);
        let operation = Describe::<Command, (), Error>::operation(&convention, command);
        let (key, Piece::Text(name)) = operation.attributes()[0] else { panic!("{operation:?}") };
        assert_eq!((key, operation.names().len()), ("db.operation.name", 1));
        assert!(operation.attributes()[1..].iter().all(|(key, _)| key.is_empty()));
        name.to_owned()
    }

    #[test]
    fn a_command_is_told_by_its_name_alone() {
        assert_eq!(name(&Command::get("hunter2")), "GET");
        assert_eq!(name(&Command::new("json.get").arg("hunter2")), "JSON.GET");
        assert_eq!(name(&Command::new("RESTORE-ASKING")), "RESTORE-ASKING");
        for hostile in ["", "GET hunter2", "G\u{c9}T", "GET\r\nSET", "\u{0}"] {
            assert_eq!(name(&Command::new(hostile)), OTHER, "{hostile:?}");
        }
        assert_eq!(name(&Command::new("x".repeat(1 << 20))), OTHER);
    }

    #[test]
    fn what_all_calls_have_in_common_names_the_database_and_its_server() {
        let text = |text: &'static str| Label::Text(text.into());
        let common = |convention: &RedisConvention| Convention::common(convention);
        let mut expected = vec![("db.system.name", text("redis")), ("db.namespace", text("15"))];
        assert_eq!(common(&RedisConvention::new(15)), expected);
        expected.push(("server.address", text("cache.internal")));
        assert_eq!(common(&RedisConvention::new(15).server("cache.internal", 6379)), expected);
        expected.push(("server.port", Label::Number(6380)));
        assert_eq!(common(&RedisConvention::new(15).server("cache.internal", 6380)), expected);
        assert_eq!(Convention::side(&RedisConvention::new(0)), Side::Client);
        assert_eq!(Convention::metric(&RedisConvention::new(0)), "db.client.operation.duration");
    }

    fn answered(text: &'static str) -> Error {
        Error::from(DriverError::new(ErrorKind::Unknown, text))
    }

    #[test]
    fn an_answer_that_is_an_error_is_told_by_its_prefix_alone() {
        for (text, code) in [
            ("WRONGTYPE Operation against a key holding the wrong kind of value", "WRONGTYPE"),
            ("ERR unknown command 'HUNTER2'", "ERR"),
            ("HUNTER2 is what a script answered", OTHER),
        ] {
            let result = Err::<(), _>(answered(text));
            let ended = ended(&result);
            assert_eq!(ended.error, Some(code));
            assert_eq!(ended.status, Some(("db.response.status_code", Piece::Text(code))));
        }
    }

    #[test]
    fn other_ends_have_a_kind_unless_a_layer_knows_better() {
        let of = |error: Error| ended(&Err::<(), _>(error)).error.map(str::to_owned);
        assert_eq!(ended(&Ok::<(), Error>(())), Ended::default());
        let refused = Origin::new("redis", "convention").reject(Reason::TimedOut);
        assert_eq!(of(refused.into()).as_deref(), Some("timed_out"), "a layer of ours knows better");
        assert_eq!(of(Error::Connection("the connection was lost")).as_deref(), Some("connection"));
        assert_eq!(of(Error::Decode("hunter2")).as_deref(), Some("decode"));
        assert_eq!(of(Error::Unshareable("BLPOP")).as_deref(), Some("unshareable"));
        assert_eq!(of(Error::InvalidName).as_deref(), Some("invalid_name"));
    }

    #[test]
    fn a_call_allocates_nothing() {
        let (convention, command) = (RedisConvention::new(0), Command::get("key"));
        let failed = Err::<(), _>(answered("OOM command not allowed"));
        let counted = allocations(|| {
            assert_eq!(Describe::<Command, (), Error>::operation(&convention, &command).names().len(), 1);
            assert_eq!(ended(&failed).error, Some("OOM"));
        });
        assert_eq!(counted.count, 0);
    }
}
