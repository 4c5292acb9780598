//! What must hold in the end. Each has its figure.

use std::time::Duration;

use crate::{
    configuration::{BULKHEAD, DEADLINE_MS, RATE},
    ledger::Ledger,
    outcome::{Books, Soaked},
    processes::Ended,
    recovery::{Effect, FACTOR, FLOOR, RECOVERY, unexcused},
    sample::{Outcome, Sample, p99},
    schedule::{Kind, Part, WARM_UP},
    upstream::WINDOW,
    watch::{Held, Look, median},
    world::GRACE,
};

/// Beyond the deadline: for the client, the kernel and a machine that has few processors.
const ALLOWANCE: Duration = Duration::from_millis(500);
/// Beyond the grace time: closing what is idle.
const LAST_MOMENT: Duration = Duration::from_secs(3);
/// What the retries' budget may add in ten seconds of calls at the limit: a fifth of them, and 10 a second.
const REPEATS: usize = RATE + 100;
/// How long those looks are taken whose median counts.
const MEASURED: Duration = Duration::from_secs(5);
/// A soak of this length has time for every kind of fault.
const ALL_KINDS: Duration = Duration::from_secs(180);

/// One thing that must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) name: String,
    pub(crate) figure: String,
    pub(crate) allowed: String,
    pub(crate) held: bool,
}

fn check(name: &str, figure: impl ToString, allowed: impl ToString, held: bool) -> Check {
    Check { name: name.to_owned(), figure: figure.to_string(), allowed: allowed.to_string(), held }
}

/// All of them.
pub(crate) fn checks(soaked: &Soaked, effects: &[Effect]) -> Vec<Check> {
    let mut checks = writes(soaked);
    checks.extend(requests(soaked, effects));
    checks.extend(limits(soaked));
    checks.extend(resources(&soaked.looks, soaked.lasts));
    checks.extend(operation(soaked));
    checks
}

fn writes(soaked: &Soaked) -> Vec<Check> {
    let Books { orders, order_rows, order_jobs, jobs, job_rows, dead, open } = &soaked.books;
    let once = |name: &str, ledger: &Ledger, rows: &_| {
        let found = ledger.compare(rows);
        let (lost, doubled, strange) = (found.lost.len(), found.doubled.len(), found.strange.len());
        let figure = format!(
            "{} acknowledged, {} never answered: {lost} lost, {doubled} doubled, {strange} unknown",
            ledger.len(),
            ledger.uncertain()
        );
        let allowed = "each acknowledged one exactly once";
        check(name, figure, allowed, ledger.len() > 0 && lost + doubled + strange == 0)
    };
    vec![
        once("orders, in Postgres", orders, order_rows),
        once("orders, in the workers' ledger", orders, order_jobs),
        once("jobs, in the workers' ledger", jobs, job_rows),
        check("orders that were said to be new twice", orders.twice_new(), 0, orders.twice_new() == 0),
        check("jobs that are dead", dead, 0, *dead == 0),
        check("jobs that are not done in the end", open, 0, *open == 0),
    ]
}

fn requests(soaked: &Soaked, effects: &[Effect]) -> Vec<Check> {
    let longest = soaked.samples.iter().map(|sample| sample.took).max().unwrap_or_default();
    let hung = soaked.samples.iter().filter(|sample| sample.outcome == Outcome::Hung).count();
    let limit = Duration::from_millis(DEADLINE_MS) + ALLOWANCE;
    let unexcused = unexcused(&soaked.samples, &soaked.faults, &soaked.bursts);
    let calm = soaked.samples.len() - soaked.samples.iter().filter(|sample| sample.is_failed()).count();
    let recovered: Vec<_> = effects.iter().map(|effect| effect.recovered).collect();
    let slowest = recovered.iter().flatten().max().copied().unwrap_or_default();
    let never = recovered.iter().filter(|it| it.is_none_or(|it| it > RECOVERY)).count();
    // Each fault is held to what was right before it, so what becomes a little slower with each is seen here alone.
    let around = |until: Duration| p99(&soaked.samples, until.saturating_sub(MEASURED), until);
    let (before, after) = (around(WARM_UP), around(soaked.lasts));
    let most = before.map(|before| (before * FACTOR).max(FLOOR));
    let told = |time: Option<Duration>| time.map_or("not known".to_owned(), millis);
    vec![
        check(
            "the longest answer, whatever the fault",
            format!("{}, {hung} hung", millis(longest)),
            format!("{DEADLINE_MS} ms and {} for the way", millis(ALLOWANCE)),
            longest <= limit && hung == 0 && !soaked.samples.is_empty(),
        ),
        check(
            "errors outside of faults and their recovery",
            format!("{} (of {calm} good ones in all)", unexcused.len()),
            0,
            unexcused.is_empty() && calm > 0,
        ),
        check(
            "the slowest recovery of the reads' p99",
            format!("{:.1} s; {never} of {} later or never", slowest.as_secs_f64(), recovered.len()),
            format!("{} s", RECOVERY.as_secs()),
            never == 0,
        ),
        check(
            "the reads' p99 at the end",
            format!("{} before the first fault, {} at the end", told(before), told(after)),
            told(most),
            after.zip(most).is_some_and(|(after, most)| after <= most),
        ),
    ]
}

fn limits(soaked: &Soaked) -> Vec<Check> {
    let upstream = soaked.upstream;
    let (at_once, window) = (upstream.most_at_once, upstream.most_in_window);
    let (at_once_in_faults, window_in_faults) =
        (upstream.most_at_once_in_faults, upstream.most_in_window_in_faults);
    let limited = soaked.samples.iter().filter(|sample| sample.outcome == Outcome::Limited).count();
    let within = |most: usize| format!("{most} in any {} ms", WINDOW.as_millis());
    vec![
        check(
            "requests at once at the upstream in its faults",
            format!("{at_once_in_faults} at most"),
            format!("{}: each may still be there when it is repeated", 2 * BULKHEAD),
            at_once_in_faults <= 2 * BULKHEAD,
        ),
        check(
            "requests at once at the upstream while it is well",
            format!("{at_once} at most"),
            format!("{BULKHEAD} (the bulkhead), which is reached"),
            // One less after a reload, so it is reached in either case.
            (BULKHEAD - 1..=BULKHEAD).contains(&at_once),
        ),
        check(
            "requests at the upstream while it is well",
            within(window),
            format!("{} (the rate limit), which is nearly reached", within(RATE)),
            // A busy machine sends a little less beside a burst.
            (RATE * 3 / 4..=RATE).contains(&window),
        ),
        check(
            "requests at the upstream in its faults",
            within(window_in_faults),
            format!("{}: the rate limit, and the retries' budget of 10 s", within(RATE + REPEATS)),
            window_in_faults <= RATE + REPEATS,
        ),
        check("requests that a limit refused", limited, "some, else no limit was reached", limited > 0),
    ]
}

/// At the end as at the beginning.
fn resources(looks: &[Look], lasts: Duration) -> Vec<Check> {
    let around =
        |until: Duration| move |look: &&Look| look.at >= until.saturating_sub(MEASURED) && look.at < until;
    let of = |what: &dyn Fn(&Look) -> Option<u64>| {
        let at = |until| median(looks.iter().filter(around(until)).map(what));
        (at(WARM_UP), at(lasts))
    };
    let same = |name: &str, unit: &str, most: &dyn Fn(u64) -> u64, what: &dyn Fn(&Look) -> Option<u64>| {
        let (before, after) = of(what);
        let (Some(before), Some(after)) = (before, after) else {
            return check(name, "not known", "to be known", false);
        };
        let allowed = most(before);
        check(
            name,
            format!("{before} before, {after} after{unit}"),
            format!("{allowed}{unit}"),
            after <= allowed,
        )
    };
    let few = |least: u64| move |before: u64| before + (before / 5).max(least);
    let memory = |before: u64| before + before / 2 + (8 << 10);
    type Of = fn(&Look) -> Option<Held>;
    let processes: [(&str, Of); 2] = [("gateway", |look| look.gateway), ("workers", |look| look.workers)];
    let mut checks = Vec::new();
    for (process, held) in processes {
        let mut add = |what: &str, unit: &str, most: &dyn Fn(u64) -> u64, value: fn(Held) -> u64| {
            let value = |look: &Look| held(look).map(value);
            checks.push(same(&format!("{process}: {what}"), unit, most, &value));
        };
        add("resident memory", " KiB", &memory, |held| held.memory);
        add("threads", "", &few(2), |held| held.threads);
        add("open files", "", &few(16), |held| held.files);
        add("sockets", "", &few(16), |held| held.sockets);
    }
    let tasks = |look: &Look| look.gateway?.tasks;
    checks.push(same("gateway: tokio's tasks", "", &few(16), &tasks));
    checks.push(same("connections to Postgres", "", &few(4), &|look| look.postgres));
    checks.push(same("connections to Redis", "", &few(2), &|look| look.redis));
    checks
}

fn operation(soaked: &Soaked) -> Vec<Check> {
    let faults = &soaked.faults;
    let wrong: Vec<_> = faults.iter().filter_map(|fault| fault.wrong.as_deref()).collect();
    let reloads = faults.iter().filter(|fault| fault.planned.kind.part() == Part::Configuration).count();
    let kinds =
        Kind::ALL.iter().filter(|&&kind| faults.iter().any(|fault| fault.planned.kind == kind)).count();
    let unnoticed = faults.iter().filter(|fault| !fault.is_noticed(&soaked.samples)).count();
    let figure = match wrong.first() {
        None => format!("{} faults, {reloads} of them reloads: as they should", faults.len()),
        Some(first) => format!("{} of {}: {first}", wrong.len(), faults.len()),
    };
    let mut checks = vec![
        check("faults and reloads that went otherwise than they should", figure, 0, wrong.is_empty()),
        check(
            "kinds of faults",
            kinds,
            format!("{} in 3 minutes or more, else some", Kind::ALL.len()),
            kinds == Kind::ALL.len() || kinds > 0 && soaked.lasts < ALL_KINDS,
        ),
        // Else all holds because nothing was wrong.
        check("faults of Postgres and the upstream that nobody noticed", unnoticed, 0, unnoticed == 0),
    ];
    let limit = GRACE + LAST_MOMENT;
    for Ended { name, code, took, last_word } in &soaked.ends {
        let code_or_none = code.map_or("none".to_owned(), |code| code.to_string());
        checks.push(check(
            &format!("{name}: its end after SIGTERM"),
            format!("exit code {code_or_none} after {}: {last_word}", millis(*took)),
            format!("0, within {}", millis(limit)),
            *code == Some(0) && *took <= limit,
        ));
    }
    checks
}

pub(crate) fn millis(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1_000.0)
}

/// Of the failures outside of faults, those that are told.
pub(crate) fn told(soaked: &Soaked) -> Vec<&Sample> {
    unexcused(&soaked.samples, &soaked.faults, &soaked.bursts)
}

#[cfg(test)]
#[path = "checks_tests.rs"]
mod tests;
