//! Each rule looks at a stack for one contradiction. What is not told makes no rule speak.

mod limits;
mod load;
mod order;
mod repeating;
mod waits;

use super::view::View;

pub(super) const ALL: &[fn(&mut View<'_>)] = &[
    limits::inner_limit_ends_nothing,
    limits::nothing_ends_a_call,
    limits::adapter_limit_above,
    limits::slow_is_never_seen,
    repeating::attempts_do_not_fit,
    repeating::attempt_may_hang,
    repeating::repeats_what_does_harm,
    repeating::without_a_budget,
    repeating::several_retries,
    repeating::hedge_never_begins,
    waits::wait_above_the_limit,
    waits::linger_above_the_limit,
    waits::permit_is_held_between_attempts,
    order::telemetry_is_inside,
    order::cache_is_inside,
    order::breaker_sees_calls,
    order::breaker_before_batch,
    load::bulkhead_above_the_pool,
    load::rate_above_the_pool,
    load::bulkhead_below_the_batch,
    limits::hangs_are_not_counted,
    limits::breaker_probes_early,
];
