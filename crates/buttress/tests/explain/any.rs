//! Any stack, in any order, with any settings.

use buttress::{
    core::{Setting, SettingValue},
    hedge::{CloneRequest, HedgeLayer},
};
use proptest::prelude::*;

use super::*;

/// A layer of any kind, with settings of any size.
fn add(stack: Stack, (kind, count, millis): (u8, u32, u64)) -> Stack {
    let time = Duration::from_millis(millis.max(1));
    let short = time.min(86_000 * SEC);
    let count = count.max(1);
    let few = count.min(1_000_000);
    match kind {
        0 => stack.layer(&TimeoutLayer::new(time).name("limit")),
        1 => {
            let backoff = Backoff::exponential(time, time.saturating_mul(count))
                .unwrap()
                .with_factor(1.0 + time.as_secs_f64());
            stack.layer(&RetryLayer::new("again").retries(count).backoff(backoff.unwrap()).retrier())
        }
        2 => stack.layer(&HedgeLayer::new("twice", CloneRequest).attempts(count).delay(time).hedger()),
        3 => stack.layer(&breaker(count)),
        4 => stack.layer(&queue(few, short)),
        5 => stack.layer(&rate(few)).also(Setting::new("wait", SettingValue::Duration(time))),
        6 => stack.layer(&cache()),
        7 => stack.layer(&batch(time)),
        8 => stack.settings(
            "postgres",
            "shop",
            vec![
                Setting::new("pool_size", SettingValue::Count(u64::MAX)),
                Setting::new("max_overflow", SettingValue::Count(count.into())),
                Setting::new("wait_timeout", SettingValue::Duration(time)),
            ],
        ),
        9 => {
            stack.settings("redis", "kv", vec![Setting::new("command_timeout", SettingValue::Duration(time))])
        }
        10 => stack.layer(&slow_rate(time)),
        11 => stack.settings(
            "retry",
            "odd",
            vec![
                Setting::new("retries", SettingValue::Count(u64::MAX)),
                Setting::new("backoff_first", SettingValue::Duration(Duration::MAX)),
                Setting::new("backoff_factor", SettingValue::Ratio(f64::NAN)),
                Setting::new("budget_ratio", SettingValue::Off),
            ],
        ),
        12 => stack.settings(
            "batch",
            "odd",
            vec![
                Setting::new("max_size", SettingValue::Count(0)),
                Setting::new("max_waiting", SettingValue::Count(u64::MAX)),
                Setting::new("in_flight", SettingValue::Count(u64::MAX)),
                Setting::new("bisect", SettingValue::Word("custom")),
            ],
        ),
        13 => stack.settings(
            "rate-limit",
            "odd",
            vec![
                Setting::new("limit", SettingValue::Count(u64::MAX)),
                Setting::new("per", SettingValue::Duration(Duration::ZERO)),
            ],
        ),
        14 => stack.settings("hedge", "odd", vec![Setting::new("attempts", SettingValue::Count(0))]),
        _ => stack.settings("own", "own", vec![Setting::new("limit", SettingValue::Off)]),
    }
}

proptest! {
    #[test]
    fn any_stack_is_explained_and_never_takes_longer_than_its_limits(
        layers in prop::collection::vec((0..16_u8, any::<u32>(), prop_oneof![0..100_000_u64, any::<u64>()]), 0..12),
    ) {
        let stack = layers.iter().fold(Stack::new("any"), |stack, layer| add(stack, *layer));
        let explanation = Explanation::of([stack.clone()]);
        let explained = &explanation.stacks()[0];
        // A limit holds for whatever stands inside of it, and the outermost one for all but the waits around it.
        let limit = |millis: u64| Duration::from_millis(millis.max(1));
        for (layer, (kind, _, millis)) in explained.layers.iter().zip(&layers) {
            if *kind == 0 {
                prop_assert!(layer.longest.is_some_and(|longest| longest <= limit(*millis)));
            }
        }
        if let Some((0, _, millis)) = layers.first() {
            prop_assert!(explained.longest.is_some_and(|longest| longest <= limit(*millis)));
        }
        prop_assert!(explained.attempts >= 1);
        prop_assert!(explained.load.long_run <= explained.attempts as f64 * 1.000_001);
        let page = explanation.to_string();
        for finding in explanation.findings() {
            prop_assert!(!finding.layers.is_empty());
            prop_assert!(page.lines().any(|line| line.trim_start() == finding.to_string()));
        }
        prop_assert_eq!(Explanation::of([stack]).to_string(), page);
    }
}
