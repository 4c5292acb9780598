use fred::types::{ClusterHash, Value};

use crate::repeat::{is_word, names_of_xread};

/// Where a command's first key stands among its arguments: by it a cluster finds the node.
pub(crate) fn position(name: &str, args: &[Value]) -> ClusterHash {
    let index = match name {
        "EVAL" | "EVALSHA" | "EVAL_RO" | "EVALSHA_RO" | "FCALL" | "FCALL_RO" => 2,
        "BITOP" | "LMPOP" | "MEMORY" | "OBJECT" | "SINTERCARD" | "XGROUP" | "XINFO" | "ZDIFF" | "ZINTER"
        | "ZINTERCARD" | "ZMPOP" | "ZUNION" => 1,
        "XREAD" | "XREADGROUP" => {
            let names = names_of_xread(name);
            match args.iter().skip(names).position(|arg| is_word(arg, "STREAMS")) {
                Some(streams) => names + streams + 1,
                None => return ClusterHash::Random,
            }
        }
        // They have no key; what their first argument is must not choose the node.
        "PING" | "ECHO" | "INFO" | "TIME" | "DBSIZE" | "SCAN" | "KEYS" | "CONFIG" | "CLIENT" | "CLUSTER"
        | "COMMAND" | "SCRIPT" | "FUNCTION" | "ACL" | "PUBLISH" => return ClusterHash::Random,
        _ => 0,
    };
    if index < args.len() { ClusterHash::Offset(index) } else { ClusterHash::Random }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use fred::util::redis_keyslot;

    use super::*;

    #[test]
    fn the_first_key_decides() {
        for (line, key) in [
            ("GET {user}:7", Some("{user}:7")),
            ("MGET a b", Some("a")),
            ("EVAL script 1 key arg", Some("key")),
            ("EVAL script", None),
            ("XREAD COUNT 2 STREAMS s1 s2 0 0", Some("s1")),
            ("XREADGROUP GROUP g c streams s >", Some("s")),
            ("XREADGROUP GROUP streams streams COUNT 1 streams s >", Some("s")),
            ("OBJECT ENCODING k", Some("k")),
            ("ZUNION 2 a b", Some("a")),
            ("PING hello", None),
            ("DBSIZE", None),
        ] {
            let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
            let args: Vec<_> = rest
                .split_whitespace()
                .map(|arg| Value::Bytes(Bytes::copy_from_slice(arg.as_bytes())))
                .collect();
            assert_eq!(
                position(name, &args).hash(&args),
                key.map(|key| redis_keyslot(key.as_bytes())),
                "{line}"
            );
        }
    }
}
