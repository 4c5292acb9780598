use std::cmp::Ordering;

use fred::types::Value;

/// Commands that leave the same state when they are carried out twice in a row, whatever their arguments. In [`order`].
///
/// Left out on purpose: what is not read or overwritten but changed (INCR, APPEND, LPUSH, LTRIM, RENAME), what answers
/// whether this very call made the change, which callers take for a claim (SETNX, SADD, SREM, HDEL, ZADD, GETSET,
/// GETDEL), and scripts, which may do anything.
const REPEATABLE: &[&str] = &[
    "DEL",
    "GET",
    "LCS",
    "TTL",
    "DUMP",
    "ECHO",
    "HGET",
    "HLEN",
    "HSET",
    "INFO",
    "KEYS",
    "LLEN",
    "LPOS",
    "LSET",
    "MGET",
    "MSET",
    "PING",
    "PTTL",
    "SCAN",
    "TIME",
    "TYPE",
    "XLEN",
    "HKEYS",
    "HMGET",
    "HMSET",
    "HSCAN",
    "HVALS",
    "SCARD",
    "SDIFF",
    "SETEX",
    "SSCAN",
    "TOUCH",
    "ZCARD",
    "ZDIFF",
    "ZRANK",
    "ZSCAN",
    "BITPOS",
    "DBSIZE",
    "EXISTS",
    "GEOPOS",
    "GETBIT",
    "LINDEX",
    "LRANGE",
    "PSETEX",
    "SINTER",
    "STRLEN",
    "SUBSTR",
    "SUNION",
    "UNLINK",
    "XRANGE",
    "ZCOUNT",
    "ZINTER",
    "ZRANGE",
    "ZSCORE",
    "ZUNION",
    "EVAL_RO",
    "GEODIST",
    "GEOHASH",
    "HEXISTS",
    "HGETALL",
    "HSTRLEN",
    "PERSIST",
    "PFCOUNT",
    "ZMSCORE",
    "BITCOUNT",
    "EXPIREAT",
    "FCALL_RO",
    "GETRANGE",
    "SETRANGE",
    "SMEMBERS",
    "XPENDING",
    "ZREVRANK",
    "GEOSEARCH",
    "PEXPIREAT",
    "RANDOMKEY",
    "SISMEMBER",
    "XREVRANGE",
    "ZLEXCOUNT",
    "ZREVRANGE",
    "EVALSHA_RO",
    "EXPIRETIME",
    "HRANDFIELD",
    "SINTERCARD",
    "SMISMEMBER",
    "ZINTERCARD",
    "PEXPIRETIME",
    "SRANDMEMBER",
    "ZRANDMEMBER",
    "ZRANGEBYLEX",
    "ZRANGEBYSCORE",
    "ZREVRANGEBYLEX",
    "ZREVRANGEBYSCORE",
];

/// Words that make one of these commands depend on what was there before.
const CONDITIONS: &[&str] = &["NX", "XX", "GT", "LT", "GET", "IFEQ", "IFNE", "IFDEQ", "IFDNE"];

/// Commands that change the connection, which all callers share, or that keep it waiting. In [`order`].
const UNSHAREABLE: &[&str] = &[
    "AUTH",
    "EXEC",
    "QUIT",
    "SYNC",
    "WAIT",
    "BLPOP",
    "BRPOP",
    "HELLO",
    "MULTI",
    "PSYNC",
    "RESET",
    "WATCH",
    "ASKING",
    "BLMOVE",
    "BLMPOP",
    "BZMPOP",
    "SELECT",
    "DISCARD",
    "MONITOR",
    "UNWATCH",
    "WAITAOF",
    "BZPOPMAX",
    "BZPOPMIN",
    "READONLY",
    "READWRITE",
    "SUBSCRIBE",
    "BRPOPLPUSH",
    "PSUBSCRIBE",
    "SSUBSCRIBE",
    "UNSUBSCRIBE",
    "PUNSUBSCRIBE",
    "SUNSUBSCRIBE",
];

/// Of the tables: the shorter first. Every command is looked up in both, and most names are told apart by their length.
fn order(left: &str, right: &str) -> Ordering {
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

pub(crate) fn is_repeatable(name: &str, args: &[Value]) -> bool {
    match name {
        "SET" => unconditional(args, 2),
        "EXPIRE" | "PEXPIRE" => unconditional(args, 2),
        _ => {
            REPEATABLE.binary_search_by(|known| order(known, name)).is_ok()
                // EXPIREAT takes conditions, too; where they are no option they are a key or a value.
                && (!name.ends_with("EXPIREAT") || unconditional(args, 2))
        }
    }
}

fn unconditional(args: &[Value], options_from: usize) -> bool {
    let options = args.get(options_from..).unwrap_or_default();
    !options.iter().any(|option| CONDITIONS.iter().any(|condition| is_word(option, condition)))
}

/// The name of a command that must not run on a connection shared by all callers.
pub(crate) fn unshareable(name: &str, args: &[Value]) -> Option<&'static str> {
    if let Ok(index) = UNSHAREABLE.binary_search_by(|known| order(known, name)) {
        return Some(UNSHAREABLE[index]);
    }
    match name {
        // `BLOCK` stands before the keys.
        "XREAD" if options_of_xread(name, args).any(|word| is_word(word, "BLOCK")) => Some("XREAD BLOCK"),
        "XREADGROUP" if options_of_xread(name, args).any(|word| is_word(word, "BLOCK")) => {
            Some("XREADGROUP BLOCK")
        }
        "CLIENT" => {
            let of_connection =
                [("REPLY", "CLIENT REPLY"), ("TRACKING", "CLIENT TRACKING"), ("CACHING", "CLIENT CACHING")];
            let subcommand = args.first()?;
            of_connection.into_iter().find(|(word, _)| is_word(subcommand, word)).map(|(_, full)| full)
        }
        _ => None,
    }
}

fn options_of_xread<'a>(name: &str, args: &'a [Value]) -> impl Iterator<Item = &'a Value> {
    args.iter().skip(names_of_xread(name)).take_while(|word| !is_word(word, "STREAMS"))
}

/// How many arguments come before the options: `XREADGROUP GROUP group consumer`, where the names are any words.
pub(crate) fn names_of_xread(name: &str) -> usize {
    if name == "XREADGROUP" { 3 } else { 0 }
}

pub(crate) fn is_word(arg: &Value, word: &str) -> bool {
    matches!(arg, Value::Bytes(bytes) if bytes.eq_ignore_ascii_case(word.as_bytes()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn args(line: &str) -> Vec<Value> {
        line.split_whitespace().map(|arg| Value::Bytes(Bytes::copy_from_slice(arg.as_bytes()))).collect()
    }

    fn repeatable(line: &str) -> bool {
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        is_repeatable(name, &args(rest))
    }

    #[test]
    fn tables_are_sorted_and_apart() {
        let sorted = |table: &[&str]| table.is_sorted_by(|left, right| order(left, right).is_lt());
        assert!(sorted(REPEATABLE) && sorted(UNSHAREABLE));
        assert!(!REPEATABLE.iter().any(|name| UNSHAREABLE.contains(name)));
    }

    #[test]
    fn what_depends_on_the_state_before_is_sent_once() {
        for line in
            ["SET k v", "SET k v PX 10", "SET NX XX", "SET k GET EX 10", "EXPIRE k 10", "GET k", "DEL a b"]
        {
            assert!(repeatable(line), "{line}");
        }
        for line in [
            "SET k v NX",
            "SET k v xx",
            "SET k v EX 10 GET",
            "EXPIRE k 10 GT",
            "PEXPIREAT k 10 nx",
            "INCR k",
            "APPEND k v",
            "LPUSH k v",
            "SETNX k v",
            "SADD k m",
            "EVAL s 0",
            "ZADD k 1 m",
            "XADD k * f v",
            "LTRIM k 1 -1",
            "RENAME a b",
            "GETDEL k",
            "UNHEARD-OF k",
            "PUBLISH c m",
        ] {
            assert!(!repeatable(line), "{line}");
        }
    }

    #[test]
    fn what_changes_or_holds_the_shared_connection_is_known() {
        let known = |name, rest| unshareable(name, &args(rest));
        assert_eq!(known("MULTI", ""), Some("MULTI"));
        assert_eq!(known("BLPOP", "k 0"), Some("BLPOP"));
        assert_eq!(known("XREAD", "COUNT 1 block 0 STREAMS s $"), Some("XREAD BLOCK"));
        assert_eq!(known("XREAD", "STREAMS BLOCK $"), None, "a stream of that name");
        assert_eq!(known("XREADGROUP", "GROUP g c BLOCK 0 STREAMS s >"), Some("XREADGROUP BLOCK"));
        let odd_names = "GROUP STREAMS streams BLOCK 0 STREAMS s >";
        assert_eq!(known("XREADGROUP", odd_names), Some("XREADGROUP BLOCK"), "a group of that name");
        assert_eq!(known("XREADGROUP", "GROUP block BLOCK STREAMS s >"), None, "a group of that name");
        assert_eq!(known("CLIENT", "reply off"), Some("CLIENT REPLY"));
        assert_eq!(known("CLIENT", "tracking on"), Some("CLIENT TRACKING"));
        assert_eq!(known("CLIENT", "CACHING yes"), Some("CLIENT CACHING"));
        assert_eq!(known("CLIENT", "LIST"), None);
        assert_eq!(known("CLIENT", ""), None);
        assert_eq!(known("GET", "MULTI"), None);
    }

    proptest! {
        #[test]
        fn keys_and_values_never_decide(key in ".*", value in ".*", condition in prop::sample::select(CONDITIONS)) {
            let bytes = |text: &str| Value::Bytes(Bytes::copy_from_slice(text.as_bytes()));
            prop_assert!(is_repeatable("SET", &[bytes(&key), bytes(&value)]));
            prop_assert!(is_repeatable("SET", &[bytes(condition), bytes(condition)]));
            prop_assert!(!is_repeatable("SET", &[bytes(&key), bytes(&value), bytes("EX"), bytes("1"), bytes(condition)]));
        }

        #[test]
        fn a_command_that_the_table_does_not_name_is_sent_once(name in "[A-Z]{1,12}") {
            let listed = REPEATABLE.contains(&name.as_str()) || ["SET", "EXPIRE", "PEXPIRE"].contains(&name.as_str());
            prop_assert_eq!(is_repeatable(&name, &[]), listed);
        }
    }
}
