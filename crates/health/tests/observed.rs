//! What the handle tells.

use std::{future::pending, time::Duration};

use buttress_core::{Metric, Observe, Setting, SettingValue};
use buttress_health::{Health, Part, Probe, Status};

use buttress_testkit::observed::settings;
const SECOND: Duration = Duration::from_secs(1);

fn db() -> Part {
    Part::new("db", Probe::from_fn(pending::<Status>)).critical().interval(5 * SECOND).thresholds(2, 1)
}

#[tokio::test(start_paused = true)]
async fn settings_are_those_in_force_of_each_part() {
    let health = Health::builder()
        .part(db())
        .part(Part::passive_only("disk", || Status::Well).liveness())
        .start()
        .unwrap();
    let seen = settings(&health);
    assert_eq!(
        seen,
        [
            Setting::new("db.critical", SettingValue::Word("on")),
            Setting::new("db.liveness", SettingValue::Off),
            Setting::new("db.interval", SettingValue::Duration(5 * SECOND)),
            Setting::new("db.timeout", SettingValue::Duration(SECOND)),
            Setting::new("db.thresholds_down", SettingValue::Count(2)),
            Setting::new("db.thresholds_up", SettingValue::Count(1)),
            Setting::new("disk.critical", SettingValue::Off),
            Setting::new("disk.liveness", SettingValue::Word("on")),
            Setting::new("disk.interval", SettingValue::Duration(10 * SECOND)),
            Setting::new("disk.timeout", SettingValue::Off),
            Setting::new("disk.thresholds_down", SettingValue::Off),
            Setting::new("disk.thresholds_up", SettingValue::Off),
        ]
    );
    // Made again, the names are the same ones.
    let again = settings(&Health::builder().part(db()).start().unwrap());
    assert!(again.iter().zip(&seen).all(|(again, seen)| std::ptr::eq(again.name, seen.name)));
}

#[tokio::test(start_paused = true)]
async fn what_a_probe_took_is_in_seconds_and_a_weak_handle_ends_with_the_health() {
    let health = Health::builder().part(db()).start().unwrap();
    let weak = health.downgrade();
    let mut units = Vec::new();
    weak.upgrade().unwrap().observe(&mut |Metric { name, unit, label, .. }| {
        if !unit.is_empty() {
            units.push((name, unit, label));
        }
    });
    assert_eq!(units, [("probe_duration", "s", Some(("part", "db")))]);
    drop(health);
    assert!(weak.upgrade().is_none());
}
