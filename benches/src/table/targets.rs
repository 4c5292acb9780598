use super::{package, read, record::Measured};

/// A bound that the project holds itself to: a line of `targets.tsv`.
#[derive(Debug, PartialEq)]
pub(super) struct Target {
    pub(super) row: String,
    metric: Metric,
    bound: Bound,
    pub(super) peer: Option<String>,
    pub(super) why: String,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Metric {
    /// A figure of the row itself.
    Figure(&'static str),
    /// A figure of the row over the peer's.
    Ratio { metric: &'static str, figure: &'static str },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// What came of a target.
#[derive(Debug)]
pub(super) struct Judged<'a> {
    pub(super) target: &'a Target,
    /// `None` where it was not measured.
    pub(super) value: Option<f64>,
    pub(super) holds: bool,
}

const HEAD: &str = "group\trow\tmetric\tbound\tpeer\twhy";

impl Target {
    pub(super) fn all() -> Result<Vec<Self>, String> {
        let path = package().join("targets.tsv");
        parse(&read(&path)?).map_err(|error| format!("{}: {error}", path.display()))
    }

    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split('\t');
        let mut next = || fields.next();
        let (group, row) = (next()?, next()?);
        let metric = match next()? {
            "allocs" => Metric::Figure("allocs"),
            "scale2" => Metric::Figure("scale2"),
            "bytes_per_key" => Metric::Figure("bytes_per_key"),
            "x" => Metric::Ratio { metric: "x", figure: "ns" },
            "scale2x" => Metric::Ratio { metric: "scale2x", figure: "scale2" },
            _ => return None,
        };
        let (side, limit) = next()?.split_once(' ')?;
        let limit = limit.parse().ok()?;
        let bound = match side {
            "<=" => Bound::AtMost(limit),
            ">=" => Bound::AtLeast(limit),
            _ => return None,
        };
        let peer = next()?;
        let peer = (!peer.is_empty()).then(|| peer.to_owned());
        let why = next()?.to_owned();
        let is_whole = next().is_none() && peer.is_some() == matches!(metric, Metric::Ratio { .. });
        is_whole.then(|| Self { row: format!("{group}/{row}"), metric, bound, peer, why })
    }

    /// As a heading of REASONS.md names it.
    pub(super) fn label(&self) -> String {
        format!("{}: {}", self.row, self.measure())
    }

    /// What is bounded, in the words of the table.
    pub(super) fn measure(&self) -> String {
        let metric = match self.metric {
            Metric::Figure(figure) => figure,
            Metric::Ratio { metric, .. } => metric,
        };
        self.peer.as_ref().map_or_else(|| metric.to_owned(), |peer| format!("{metric} of {peer}"))
    }

    pub(super) fn bound(&self) -> String {
        match self.bound {
            Bound::AtMost(limit) => format!("at most {limit}"),
            Bound::AtLeast(limit) => format!("at least {limit}"),
        }
    }

    /// The peer whose time it is told against.
    pub(super) fn peer_by_time(&self) -> Option<&str> {
        match self.metric {
            Metric::Ratio { metric: "x", .. } => self.peer.as_deref(),
            _ => None,
        }
    }

    pub(super) fn judge(&self, measured: &Measured) -> Judged<'_> {
        let value = match (self.metric, &self.peer) {
            (Metric::Figure(figure), _) => measured.row(&self.row).and_then(|row| row.figure(figure)),
            (Metric::Ratio { figure, .. }, Some(peer)) => measured.ratio(&self.row, peer, figure),
            (Metric::Ratio { .. }, None) => None,
        };
        let holds = value.is_some_and(|value| match self.bound {
            Bound::AtMost(limit) => value <= limit,
            Bound::AtLeast(limit) => value >= limit,
        });
        Judged { target: self, value, holds }
    }
}

fn parse(text: &str) -> Result<Vec<Target>, String> {
    let rows = text.strip_prefix(HEAD).and_then(|rows| rows.strip_prefix('\n'));
    let rows = rows.ok_or_else(|| format!("its first line is not `{}`", HEAD.replace('\t', " TAB ")))?;
    rows.lines().map(|line| Target::parse(line).ok_or_else(|| format!("`{line}` is no target"))).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashSet;

    use super::{super::record::tests::measured, *};

    pub(in crate::table) fn target(line: &str) -> Target {
        Target::parse(&line.replace('|', "\t")).unwrap()
    }

    #[test]
    fn every_kind_of_bound_is_judged() {
        let all = measured(&[
            ("a/x", "ns", 7.0),
            ("a/p", "ns", 10.0),
            ("a/x", "scale2", 0.9),
            ("a/p", "scale2", 1.0),
            ("a/x", "allocs", 0.0),
        ]);
        let judge = |line| {
            let target = target(line);
            let Judged { value, holds, .. } = target.judge(&all);
            (value, holds)
        };
        assert_eq!(judge("a|x|x|<= 0.7|a/p|"), (Some(0.7), true));
        assert_eq!(judge("a|x|x|<= 0.6|a/p|"), (Some(0.7), false));
        assert_eq!(judge("a|x|scale2x|>= 0.9|a/p|"), (Some(0.9), true));
        assert_eq!(judge("a|x|scale2|>= 1.0||"), (Some(0.9), false));
        assert_eq!(judge("a|x|allocs|<= 0||"), (Some(0.0), true));
        assert_eq!(judge("a|x|bytes_per_key|<= 48||"), (None, false));
        assert_eq!(judge("a|x|x|<= 1|a/none|"), (None, false));
    }

    #[test]
    fn a_line_that_is_no_target_is_named() {
        for line in [
            "a|x|ns|<= 1||",
            "a|x|x|< 1|a/p|",
            "a|x|x|<= 1||",
            "a|x|allocs|<= 1|a/p|",
            "a|x|allocs|<= one||",
            "a|x|allocs|<= 1",
            "a|x|allocs|<= 1|||",
        ] {
            let error = parse(&format!("{HEAD}\n{}\n", line.replace('|', "\t"))).unwrap_err();
            assert!(error.contains("is no target"), "{line}: {error}");
        }
        assert!(parse("a\tx\tallocs\t<= 0\t\t\n").is_err());
    }

    #[test]
    fn the_targets_that_are_checked_in_can_be_read_and_none_stands_twice() {
        let targets = Target::all().unwrap();
        assert!(targets.len() >= 40);
        let labels: HashSet<String> = targets.iter().map(Target::label).collect();
        assert_eq!(labels.len(), targets.len());
    }

    /// Else an hour of measuring ends without a figure for it.
    #[test]
    fn the_rows_that_targets_name_exist() {
        let rows: HashSet<String> = crate::groups::rows().iter().map(crate::row::Row::id).collect();
        let of_servers = ["postgres/", "redis/", "http/"];
        for target in Target::all().unwrap() {
            for id in [Some(&target.row), target.peer.as_ref()].into_iter().flatten() {
                let is_of_servers = of_servers.iter().any(|group| id.starts_with(group));
                assert!(is_of_servers || rows.contains(id), "{id}");
            }
        }
    }

    #[test]
    fn a_label_names_the_peer() {
        assert_eq!(target("a|x y|x|<= 1|b/z|").label(), "a/x y: x of b/z");
        assert_eq!(target("a|x y|scale2|>= 0.5||").label(), "a/x y: scale2");
        assert_eq!(target("a|x y|scale2|>= 0.5||").bound(), "at least 0.5");
    }
}
