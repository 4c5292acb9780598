use std::time::Duration;

use buttress_core::{Setting, SettingValue};

use crate::builder::{Builder, LONGEST_IDLE};

/// Of a knob whose value is a text, an address or a secret: whether it is set at all.
pub(crate) const fn on(is_set: bool) -> SettingValue {
    if is_set { SettingValue::Word("on") } else { SettingValue::Off }
}

/// What a client is built with.
pub(crate) fn settings(builder: &Builder) -> Box<[Setting]> {
    let count = |count: usize| SettingValue::Count(count as u64);
    let limit = |limit: Option<Duration>| limit.map_or(SettingValue::Off, SettingValue::Duration);
    let idle_timeout = builder.pool_idle_timeout.min(LONGEST_IDLE);
    let max_idle = if idle_timeout.is_zero() { 0 } else { builder.pool_max_idle_per_host };
    let limits = &builder.limits;
    let mut settings = vec![
        Setting::new("connect_timeout", SettingValue::Duration(builder.connect_timeout)),
        Setting::new("pool_idle_timeout", SettingValue::Duration(idle_timeout)),
        Setting::new("pool_max_idle_per_host", count(max_idle)),
        Setting::new("max_connections_per_host", count(builder.caps.per_host)),
        Setting::new("max_connections", count(builder.caps.total)),
        Setting::new("max_waiting", count(builder.caps.waiting)),
        Setting::new("http2", on(builder.http2)),
        Setting::new("first_byte_timeout", limit(limits.first_byte)),
        Setting::new("read_timeout", limit(limits.read)),
        Setting::new("max_response_body", limits.body.map_or(SettingValue::Off, SettingValue::Count)),
    ];
    let mut push = |setting| settings.push(setting);
    builder.dial.settings(&mut push);
    builder.tls.settings(&mut push);
    builder.outgoing.settings(&mut push);
    settings.into()
}
