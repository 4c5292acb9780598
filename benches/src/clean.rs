use std::{fmt, io};

/// How much is measured of each row, and when to give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    /// So many clean slices are enough.
    pub(crate) wanted: usize,
    /// So many make a median; with fewer the row is not measured.
    pub(crate) needed: usize,
    /// So many slices are tried at most.
    pub(crate) tries: usize,
}

impl Plan {
    pub(crate) const FULL: Self = Self { wanted: 21, needed: 7, tries: 400 };
    pub(crate) const QUICK: Self = Self { wanted: 5, needed: 3, tries: 100 };
}

/// The clean ones of the slices that were tried.
#[derive(Debug)]
pub(crate) struct Clean<T> {
    pub(crate) kept: Vec<T>,
    pub(crate) tried: usize,
    needed: usize,
}

impl<T> Clean<T> {
    /// Takes slices until enough are clean; `slice` returns `None` for one that was disturbed.
    pub(crate) fn collect(plan: Plan, mut slice: impl FnMut() -> io::Result<Option<T>>) -> io::Result<Self> {
        let (mut kept, mut tried) = (Vec::with_capacity(plan.wanted), 0);
        while kept.len() < plan.wanted && tried < plan.tries {
            tried += 1;
            kept.extend(slice()?);
        }
        Ok(Self { kept, tried, needed: plan.needed })
    }

    /// The median of a figure over the clean slices; `None` where too few were clean to have one.
    pub(crate) fn median(&self, figure: impl FnMut(&T) -> f64) -> Option<f64> {
        if self.kept.len() < self.needed { None } else { median(self.kept.iter().map(figure).collect()) }
    }
}

/// `clean/tried`, as in the table.
impl<T> fmt::Display for Clean<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kept.len(), self.tried)
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        Some(values[middle])
    } else {
        Some((values.get(middle.checked_sub(1)?)? + values[middle]) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan = Plan { wanted: 3, needed: 2, tries: 10 };

    fn collect(slices: impl IntoIterator<Item = Option<f64>>) -> Clean<f64> {
        let mut slices = slices.into_iter();
        Clean::collect(PLAN, || Ok(slices.next().expect("more slices were taken than the plan allows")))
            .unwrap()
    }

    #[test]
    fn the_median_is_the_middle_one_or_between_the_two() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![7.0]), Some(7.0));
        assert_eq!(median(vec![9.0, 1.0]), Some(5.0));
        assert_eq!(median(vec![100.0, 1.0, 3.0]), Some(3.0));
        assert_eq!(median(vec![4.0, 1.0, 100.0, 2.0]), Some(3.0));
    }

    #[test]
    fn disturbed_slices_are_repeated_and_left_out() {
        let clean = collect([None, Some(1.0), None, None, Some(5.0), Some(2.0)]);
        assert_eq!((clean.kept.len(), clean.tried), (3, 6));
        assert_eq!(clean.median(|ns| *ns), Some(2.0));
        assert_eq!(clean.median(|ns| 10.0 - ns), Some(8.0));
    }

    #[test]
    fn it_gives_up_in_the_end() {
        let clean = collect((0..10).map(|at| (at == 4).then_some(1.0)));
        assert_eq!((clean.kept.len(), clean.tried), (1, 10));
        assert_eq!(clean.median(|ns| *ns), None, "one slice is no median when the plan needs two");
    }

    #[test]
    fn a_few_clean_slices_are_a_median_still() {
        let clean = collect((0..10).map(|at| (at > 7).then_some(1.0)));
        assert_eq!((clean.kept.len(), clean.tried), (2, 10));
        assert_eq!(clean.median(|ns| *ns), Some(1.0));
    }
}
