//! What a node of a cluster knows about the others: `CLUSTER NODES`, a line for each.

use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) addr: SocketAddr,
    flags: Vec<String>,
    /// The id of its master.
    pub(crate) replica_of: Option<String>,
    linked: bool,
    slots: Vec<RangeInclusive<u16>>,
}

impl Member {
    pub(crate) fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|known| known == flag)
    }

    pub(crate) fn is_master_of(&self, slot: u16) -> bool {
        self.has("master") && self.slots.iter().any(|range| range.contains(&slot))
    }

    /// Known by its name, reached, and not suspected of anything.
    pub(crate) fn is_well(&self) -> bool {
        let ill = ["fail", "fail?", "handshake", "noaddr"];
        (self.linked || self.has("myself")) && !ill.iter().any(|flag| self.has(flag))
    }
}

/// Reads the answer to `CLUSTER NODES`.
pub(crate) fn read(nodes: &str) -> io::Result<Vec<Member>> {
    nodes.lines().map(|line| member(line).ok_or_else(|| strange(line))).collect()
}

fn member(line: &str) -> Option<Member> {
    let mut words = line.split_ascii_whitespace();
    let (id, addr, flags, master) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let linked = words.nth(3)? == "connected";
    Some(Member {
        id: id.to_owned(),
        // Behind the address stands the port of the bus.
        addr: addr.split('@').next()?.parse().ok()?,
        flags: flags.split(',').map(str::to_owned).collect(),
        replica_of: (master != "-").then(|| master.to_owned()),
        linked,
        // A slot on its way to another node stands in brackets.
        slots: words.filter(|word| !word.starts_with('[')).map(range).collect::<Option<_>>()?,
    })
}

fn range(word: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    Some(first.parse().ok()?..=last.parse().ok()?)
}

fn strange(line: &str) -> io::Error {
    io::Error::other(format!("CLUSTER NODES has a strange line: {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masters_replicas_and_the_lost_are_told_apart() {
        let text = "aa 127.0.0.1:7000@17000,host myself,master - 0 0 1 connected 0-5460 9000 [1->-bb]\n\
                    bb 127.0.0.1:7001@17001 slave aa 0 1 1 connected\n\
                    cc 127.0.0.1:7002@17002 master,fail - 0 1 3 disconnected 5461-8999\n";
        let members = read(text).unwrap();
        assert!(members[0].is_master_of(5460) && members[0].is_master_of(9000) && members[0].is_well());
        assert!(!members[0].is_master_of(5461));
        assert_eq!(members[1].replica_of.as_deref(), Some("aa"));
        assert!(!members[1].is_master_of(0) && members[1].is_well());
        assert!(members[2].is_master_of(5461) && !members[2].is_well());
        assert!(read("aa").is_err());
    }
}
