//! How the script's answers are read. Whatever is not one of them is an error, and never a grant.

use std::time::Duration;

use buttress_rate_limit::cluster::{Ask, Grant};
use fred::types::Value;

use crate::rate_limit::StoreError;

/// One answer for each ask.
pub(super) fn read(answer: &Value, asks: &[&Ask]) -> Vec<Result<Grant, StoreError>> {
    let numbers: Option<Vec<i64>> = match answer {
        Value::Integer(number) => Some(vec![*number]),
        Value::Array(values) => values
            .iter()
            .map(|value| if let Value::Integer(number) = value { Some(*number) } else { None })
            .collect(),
        _ => None,
    };
    match numbers {
        Some(numbers) if numbers == [-1] => fail(&StoreError::Foreign, asks),
        Some(numbers) if numbers.len() == 4 * asks.len() => {
            let answers = numbers.chunks_exact(4).zip(asks);
            answers.map(|(numbers, ask)| grant(numbers, ask).ok_or(StoreError::Nonsense)).collect()
        }
        _ => fail(&StoreError::Nonsense, asks),
    }
}

/// The same error for each.
pub(super) fn fail(error: &StoreError, asks: &[&Ask]) -> Vec<Result<Grant, StoreError>> {
    asks.iter().map(|_| Err(error.clone())).collect()
}

fn grant(numbers: &[i64], ask: &Ask) -> Option<Grant> {
    let &[units, remaining, nodes, wait] = numbers else { return None };
    let [units, remaining, nodes] =
        [u32::try_from(units).ok()?, remaining.try_into().ok()?, nodes.try_into().ok()?];
    if units > 0 {
        let possible = units >= ask.least && units <= ask.most && wait == 0;
        return possible.then(|| Grant::of(units, remaining, nodes));
    }
    let retry_after = match wait {
        -1 => None,
        // There were too few, and it cannot be that there are enough now.
        0 if ask.least > 0 => return None,
        wait => Some(Duration::from_micros(wait.try_into().ok()?)),
    };
    Some(Grant::none(retry_after, remaining, nodes))
}

#[cfg(test)]
mod tests {
    use buttress_rate_limit::{Rate, cluster::Subject};
    use proptest::prelude::*;

    use super::*;

    fn ask(least: u32, most: u32) -> Ask {
        let mut ask = Ask::exactly(Subject::of("api".into()), vec![Rate::per_second(9).into()].into(), least);
        ask.most = most;
        ask
    }

    fn numbers(numbers: &[i64]) -> Value {
        Value::Array(numbers.iter().map(|number| Value::Integer(*number)).collect())
    }

    #[test]
    fn grants_and_refusals_are_read() {
        let asks = [ask(1, 5), ask(4, 4), ask(10, 10), ask(0, 0)];
        let asks: Vec<&Ask> = asks.iter().collect();
        let answers = read(&numbers(&[5, 4, 2, 0, 0, 4, 0, 1500, 0, 4, 0, -1, 0, 4, 0, 0]), &asks);
        let answers: Vec<Grant> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(
            answers,
            [
                Grant::of(5, 4, 2),
                Grant::none(Some(Duration::from_micros(1500)), 4, 0),
                Grant::none(None, 4, 0),
                Grant::none(Some(Duration::ZERO), 4, 0),
            ]
        );
    }

    #[test]
    fn nonsense_is_an_error_of_that_ask_alone() {
        let (good, asks) = ([2, 0, 0, 0], [ask(1, 2), ask(2, 3)]);
        let asks: Vec<&Ask> = asks.iter().collect();
        for bad in [
            [4, 0, 0, 0],
            [1, 0, 0, 0],
            [-1, 0, 0, 0],
            [2, -1, 0, 0],
            [2, 0, -1, 0],
            [2, 0, 0, 7],
            [0, 0, 0, 0],
            [0, 0, 0, -2],
            [1 << 33, 0, 0, 0],
        ] {
            let answers = read(&numbers(&[good, bad].concat()), &asks);
            assert_eq!(answers[0].as_ref().unwrap(), &Grant::of(2, 0, 0));
            assert!(matches!(answers[1], Err(StoreError::Nonsense)), "{bad:?}: {answers:?}");
        }
    }

    #[test]
    fn an_answer_of_another_shape_is_an_error_of_all() {
        let asks = [ask(1, 2), ask(2, 3)];
        let asks: Vec<&Ask> = asks.iter().collect();
        let text = |text: &'static str| Value::String(text.into());
        let mut with_text = vec![text("2")];
        with_text.extend((0..7).map(|_| Value::Integer(0)));
        for odd in [
            Value::Null,
            text("OK"),
            Value::Integer(2),
            Value::Array(vec![]),
            numbers(&[2, 0, 0, 0]),
            numbers(&[0; 9]),
            numbers(&[-1, -1]),
            numbers(&[-2]),
            Value::Array(with_text),
        ] {
            let answers = read(&odd, &asks);
            assert_eq!(answers.len(), 2);
            assert!(answers.iter().all(|answer| matches!(answer, Err(StoreError::Nonsense))), "{odd:?}");
        }
        for foreign in [numbers(&[-1]), Value::Integer(-1)] {
            assert!(read(&foreign, &asks).iter().all(|answer| matches!(answer, Err(StoreError::Foreign))));
        }
    }

    proptest! {
        #[test]
        fn no_answer_grants_more_than_was_asked_for(
            values in prop::collection::vec(prop_oneof![any::<i64>(), -2..5i64], 0..9), least in 0..4u32, most in 0..4u32,
        ) {
            let asks = [ask(least, most), ask(1, 2)];
            let asks: Vec<&Ask> = asks.iter().collect();
            let answers = read(&numbers(&values), &asks);
            prop_assert_eq!(answers.len(), 2);
            for (answer, ask) in answers.iter().zip(asks) {
                if let Ok(Grant { units, .. }) = answer {
                    prop_assert!(*units == 0 || (ask.least..=ask.most).contains(units));
                }
            }
        }
    }
}
