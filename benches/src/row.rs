use tokio::runtime::Runtime;

use crate::{
    body::Body,
    verdict::{Tally, Verdict},
};

/// A line of the table: what is called, and what its calls must come to.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(crate) group: &'static str,
    pub(crate) name: &'static str,
    build: fn(&Runtime) -> Box<dyn Body>,
    expected: Expected,
    /// How many keys it is filled with when it is built, where its memory for each is to be told.
    pub(crate) keys: Option<u32>,
}

/// How a row's calls end, if the row is what its name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    All(Verdict),
    /// One in a hundred fails, the others are served.
    OnePercentFailing,
}

impl Row {
    pub(crate) const fn new(
        group: &'static str,
        name: &'static str,
        expected: Expected,
        build: fn(&Runtime) -> Box<dyn Body>,
    ) -> Self {
        Self { group, name, build, expected, keys: None }
    }

    /// The same, whose memory is told for each of the keys that it is built with.
    pub(crate) const fn filled_with(mut self, keys: u32) -> Self {
        self.keys = Some(keys);
        self
    }

    pub(crate) fn id(&self) -> String {
        format!("{}/{}", self.group, self.name)
    }

    /// Builds the row and warms it up, beyond any window or ring of its own.
    ///
    /// # Errors
    /// When its calls do not end as expected.
    pub(crate) fn build(&self, runtime: &Runtime) -> Result<Box<dyn Body>, String> {
        let mut body = self.construct(runtime);
        body.run(runtime, 2_000);
        self.check(body.as_mut(), runtime)?;
        Ok(body)
    }

    pub(crate) fn construct(&self, runtime: &Runtime) -> Box<dyn Body> {
        let _timers = runtime.enter();
        (self.build)(runtime)
    }

    /// Makes some calls to see that they end as expected: a breaker that is no longer open would be timed in vain.
    pub(crate) fn check(&self, body: &mut dyn Body, runtime: &Runtime) -> Result<(), String> {
        let tally = body.tally(runtime, 200);
        if tally == self.expected.of_two_hundred() {
            return Ok(());
        }
        Err(format!("{}: expected {:?} of 200 calls, had {tally:?}", self.id(), self.expected))
    }
}

impl Expected {
    fn of_two_hundred(self) -> Tally {
        match self {
            Self::All(Verdict::Served) => Tally { served: 200, ..Tally::default() },
            Self::All(Verdict::Failed) => Tally { failed: 200, ..Tally::default() },
            Self::All(Verdict::Refused) => Tally { refused: 200, ..Tally::default() },
            Self::OnePercentFailing => Tally { served: 198, failed: 2, refused: 0 },
        }
    }
}

/// Which rows to measure: those that contain one of the texts, or all where there is none.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Filter(Vec<String>);

/// What the other rows are told against; a filter never leaves them out.
const YARDSTICKS: [&str; 2] = ["physical/bare", "physical/Instant::now"];

impl Filter {
    pub(crate) fn add(&mut self, text: String) {
        self.0.push(text);
    }

    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    pub(crate) fn matches(&self, id: &str) -> bool {
        self.0.is_empty() || YARDSTICKS.contains(&id) || self.0.iter().any(|text| id.contains(text))
    }

    /// The rows that match.
    ///
    /// # Errors
    /// When a text matches no row at all.
    pub(crate) fn select(&self, rows: Vec<Row>) -> Result<Vec<Row>, String> {
        if let Some(text) = self.0.iter().find(|text| !rows.iter().any(|row| row.id().contains(*text))) {
            return Err(format!("no row contains `{text}`"));
        }
        Ok(rows.into_iter().filter(|row| self.matches(&row.id())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::{DOWN, FLAKY, HEALTHY},
        body,
    };

    const SERVED: Expected = Expected::All(Verdict::Served);
    const ROWS: [Row; 4] = [
        Row::new("physical", "bare", SERVED, |_| body::shared(HEALTHY)),
        Row::new("physical", "Instant::now", SERVED, |_| body::shared(HEALTHY)),
        Row::new("breaker", "flaky", Expected::OnePercentFailing, |_| body::shared(FLAKY)),
        Row::new("retry", "down", SERVED, |_| body::shared(DOWN)),
    ];

    fn selected(texts: &[&str]) -> Result<Vec<String>, String> {
        let mut filter = Filter::default();
        texts.iter().for_each(|text| filter.add((*text).into()));
        Ok(filter.select(ROWS.to_vec())?.iter().map(Row::id).collect())
    }

    #[test]
    fn a_filter_keeps_the_yardsticks() {
        assert_eq!(
            selected(&["er/fl"]).unwrap(),
            ["physical/bare", "physical/Instant::now", "breaker/flaky"]
        );
        assert_eq!(selected(&["flaky", "down"]).unwrap().len(), 4);
        assert_eq!(selected(&[]).unwrap().len(), 4);
    }

    #[test]
    fn a_filter_that_matches_nothing_is_a_mistake() {
        assert!(selected(&["flaky", "braker"]).unwrap_err().contains("braker"));
    }

    #[test]
    fn a_row_is_held_to_its_name() {
        let runtime = body::runtime().unwrap();
        for row in &ROWS[..3] {
            let mut body = row.build(&runtime).unwrap();
            row.check(body.as_mut(), &runtime).unwrap();
            row.check(body.fork().unwrap().as_mut(), &runtime).unwrap();
        }
        let refused = ROWS[3].build(&runtime).err().unwrap();
        assert!(refused.starts_with("retry/down: "), "{refused}");
        assert!(refused.contains("failed: 200"), "{refused}");
    }
}
