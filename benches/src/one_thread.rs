use std::{io, thread, time::Duration};

use tokio::{runtime::Runtime, time::Instant};

use crate::{
    body::Body,
    clean::{Clean, Plan},
    switches,
};

const SLICE: Duration = Duration::from_millis(3);
const BARE_SLICE: Duration = Duration::from_millis(1);

/// A slice of the row and the slice of `bare` that went before, in nanoseconds a call.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) bare: f64,
    pub(crate) row: f64,
}

/// Times the row on this thread alone.
pub(crate) fn measure(
    row: &mut dyn Body,
    bare: &mut dyn Body,
    runtime: &Runtime,
    plan: Plan,
) -> io::Result<Clean<Pair>> {
    let (bare_calls, calls) = (calls_in(bare, runtime, BARE_SLICE), calls_in(row, runtime, SLICE));
    Clean::collect(plan, || {
        // Whoever waits for the processor has it now, rather than in the middle of the slice.
        thread::yield_now();
        let before = switches::involuntary()?;
        let pair =
            Pair { bare: nanos_a_call(bare, runtime, bare_calls), row: nanos_a_call(row, runtime, calls) };
        Ok((switches::involuntary()? == before).then_some(pair))
    })
}

/// About how many calls take so long.
pub(crate) fn calls_in(body: &mut dyn Body, runtime: &Runtime, slice: Duration) -> u64 {
    let mut calls = 16;
    let nanos = loop {
        let nanos = nanos_a_call(body, runtime, calls);
        if nanos * calls as f64 >= slice.as_nanos() as f64 / 8.0 {
            break nanos;
        }
        calls *= 2;
    };
    // The last try may have been disturbed; the fastest of a few was the least.
    let nanos = (0..4).map(|_| nanos_a_call(body, runtime, calls)).fold(nanos, f64::min);
    ((slice.as_nanos() as f64 / nanos) as u64).max(1)
}

fn nanos_a_call(body: &mut dyn Body, runtime: &Runtime, calls: u64) -> f64 {
    let start = Instant::now();
    body.run(runtime, calls);
    start.elapsed().as_nanos() as f64 / calls as f64
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::ready};

    use tower::service_fn;

    use super::*;
    use crate::{
        backend::HEALTHY,
        body::{runtime, shared},
    };

    #[test]
    fn a_slower_call_is_measured_slower() {
        let runtime = runtime().unwrap();
        let mut bare = shared(HEALTHY);
        let mut slow = shared(service_fn(|_| {
            let start = Instant::now();
            while start.elapsed() < Duration::from_micros(20) {}
            ready(Ok::<_, Infallible>(()))
        }));
        let calls = calls_in(slow.as_mut(), &runtime, SLICE);
        assert!((1..=150).contains(&calls), "{calls} calls of 20 us in 3 ms");

        let plan = Plan { wanted: 1, needed: 1, tries: 10_000 };
        let clean = measure(slow.as_mut(), bare.as_mut(), &runtime, plan).unwrap();
        let pair = &clean.kept[0];
        assert!(pair.row >= 20_000.0, "{pair:?}");
        assert!(pair.bare < pair.row, "{pair:?}");
    }
}
