//! The machine against a naive model of it, step by step.

use std::collections::VecDeque;

use super::*;

/// Says the same as the machine, in the plainest way: every call kept, every rule an `if`.
struct Naive {
    window: usize,
    min_calls: usize,
    consecutive: usize,
    permitted: usize,
    successes: usize,
    ramp: Duration,
    state: State,
    epoch: u64,
    calls: VecDeque<bool>,
    in_a_row: usize,
    until: Instant,
    since: Instant,
    out: Vec<(Ticket, Instant)>,
    succeeded: usize,
}

impl Naive {
    fn recover(&mut self, now: Instant) {
        self.go(if self.ramp.is_zero() { State::Closed } else { State::Recovering }, now);
    }

    fn go(&mut self, state: State, now: Instant) {
        self.state = state;
        self.epoch += 1;
        self.calls.clear();
        self.in_a_row = 0;
        self.out.clear();
        self.succeeded = 0;
        self.until = now + OPEN_FOR;
        self.since = now;
    }

    fn may_admit(&mut self, now: Instant) -> bool {
        if self.state == State::Open && now >= self.until {
            self.go(State::HalfOpen, now);
        } else if self.state == State::HalfOpen {
            if self.out.iter().any(|(_, until)| now >= *until) {
                self.go(State::Open, now);
            } else if now >= self.since + 3 * LEASE {
                self.recover(now);
            }
        } else if self.state == State::Recovering && now >= self.since + self.ramp {
            // Counting goes on.
            self.state = State::Closed;
        }
        match self.state {
            State::Closed | State::Recovering => true,
            State::HalfOpen => self.out.len() < self.permitted.min(self.successes - self.succeeded),
            _ => false,
        }
    }

    fn end(&mut self, ticket: Ticket, verdict: Verdict, now: Instant) {
        if ticket.epoch.get() != self.epoch {
            return;
        }
        let failed = matches!(verdict, Verdict::Bad { .. });
        if self.state == State::HalfOpen {
            let Some(at) = self.out.iter().position(|(other, _)| *other == ticket) else { return };
            let (_, until) = self.out.remove(at);
            let late = now >= until;
            if verdict == Verdict::None && !late {
                return;
            }
            self.succeeded += 1;
            if failed || late {
                self.go(State::Open, now);
            } else if self.succeeded == self.successes {
                self.recover(now);
            }
        } else if verdict != Verdict::None {
            self.calls.push_back(failed);
            while self.calls.len() > self.window {
                self.calls.pop_front();
            }
            self.in_a_row = if failed { self.in_a_row + 1 } else { 0 };
            let failures = self.calls.iter().filter(|failed| **failed).count();
            let rate = self.calls.len() >= self.min_calls && failures * 2 >= self.calls.len();
            if failed && (rate || self.in_a_row >= self.consecutive) {
                self.go(State::Open, now);
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Admit,
    End { which: prop::sample::Index, verdict: Verdict, forget: bool },
    Wait(Duration),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let verdict = prop_oneof![
        3 => Just(Verdict::Good { slow: false }),
        3 => Just(Verdict::Bad { slow: false }),
        1 => Just(Verdict::None),
    ];
    let end = (any::<prop::sample::Index>(), verdict, prop::bool::weighted(0.9));
    let step = prop_oneof![
        5 => Just(Step::Admit),
        5 => end.prop_map(|(which, verdict, forget)| Step::End { which, verdict, forget }),
        2 => (0..8_000_u64).prop_map(|ms| Step::Wait(Duration::from_millis(ms))),
    ];
    prop::collection::vec(step, 1..400)
}

proptest! {
    #[test]
    fn the_machine_does_what_the_model_says(
        steps in steps(), window in 1..12_u32, min_calls in 1..12_u32, consecutive in 1..8_u32, permitted in 1..5_u32,
        successes in 1..7_u32, ramp in 0..3_u64,
    ) {
        let min_calls = min_calls.min(window);
        let trip = Trip::failure_rate(0.5, Window::calls(window)?)?.with_min_calls(min_calls)?.with_consecutive(consecutive)?;
        let ramp = Duration::from_secs(ramp * 5);
        let probes = Probes::try_new(permitted, LEASE)?.with_successes(successes)?;
        let settings = settings(trip, permitted).probes(probes);
        let mut machine = Machine::new(if ramp.is_zero() { settings } else { settings.ramp(Ramp::over(ramp)?) });
        let mut now = Instant::now();
        let mut naive = Naive {
            window: window as usize, min_calls: min_calls as usize, consecutive: consecutive as usize,
            permitted: permitted as usize, successes: successes as usize, ramp, state: State::Closed, epoch: 1, calls: VecDeque::new(), in_a_row: 0,
            until: now, since: now, out: Vec::new(), succeeded: 0,
        };
        // Tickets are kept across transitions, and sometimes used twice.
        let mut tickets: Vec<Ticket> = Vec::new();
        for step in steps {
            match step {
                Step::Wait(length) => now += length,
                Step::Admit => {
                    let may = naive.may_admit(now);
                    let (result, transition) = machine.admit(now);
                    prop_assert_eq!(result.is_ok(), may);
                    prop_assert_eq!(transition.is_some_and(|t| t.from == t.to), false);
                    if let Ok(ticket) = result {
                        prop_assert_eq!(ticket.epoch.get(), naive.epoch);
                        if naive.state == State::HalfOpen {
                            naive.out.push((ticket, now + LEASE));
                        }
                        tickets.push(ticket);
                    }
                }
                Step::End { which, verdict, forget } if !tickets.is_empty() => {
                    let index = which.index(tickets.len());
                    let ticket = if forget { tickets.swap_remove(index) } else { tickets[index] };
                    if ticket.probe.is_some() {
                        machine.judge(ticket, verdict, now);
                    } else if ticket.epoch == machine.epoch() && verdict != Verdict::None {
                        machine.count(call(matches!(verdict, Verdict::Bad { .. })), || now);
                    }
                    naive.end(ticket, verdict, now);
                }
                Step::End { .. } => {}
            }
            prop_assert_eq!(machine.state(), naive.state);
            prop_assert_eq!(machine.epoch().get(), naive.epoch);
            // A machine that says it is quiet must not be changed by a success.
            if machine.is_quiet() {
                let before = (machine.tally(), machine.consecutive());
                machine.count(call(false), || now);
                prop_assert_eq!((machine.tally(), machine.consecutive()), before);
                prop_assert_eq!(machine.state(), State::Closed);
            }
        }
    }
}
