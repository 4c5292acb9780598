//! Copies of a body against a model that is plainly right.

mod pieces;

use buttress_http::Body;
use http_body::Body as HttpBody;
use pieces::{KEPT, Piece, data, next, pieces, rest, trailers};
use proptest::prelude::*;

#[derive(Debug, Clone, Copy)]
enum Step {
    Copy(usize),
    Poll(usize),
    Drop(usize),
}

/// The same rules over a list of all pieces.
struct Model {
    all: Vec<Piece>,
    pulled: usize,
    /// Pieces before it are gone.
    first: usize,
    turns: usize,
    failed: bool,
    copies: Vec<(Body, usize, usize)>,
}

impl Model {
    fn can_begin(&self) -> bool {
        self.first == 0 && !self.failed
    }

    fn expected(&mut self, copy: usize) -> Option<Result<Piece, ()>> {
        let alone = self.copies.len() == 1;
        let (_, at, turn) = &mut self.copies[copy];
        if *turn == 0 {
            self.turns += 1;
            *turn = self.turns;
        }
        if self.failed || *at < self.first {
            return Some(Err(()));
        }
        // A poll of the last one forgets what it has behind it.
        if alone {
            self.first = self.first.max(*at);
        }
        if *at == self.pulled && *at < self.all.len() {
            if *turn != self.turns {
                return Some(Err(()));
            }
            match self.all.get(*at) {
                Some(Piece::Error) => {
                    self.failed = true;
                    return Some(Err(()));
                }
                _ => {
                    self.pulled += 1;
                    let cost: usize = self.all[..self.pulled].iter().map(Piece::cost).sum();
                    if self.first > 0 || cost > KEPT {
                        self.first = self.pulled;
                    }
                }
            }
        }
        let piece = (*at < self.pulled).then(|| self.all[*at].clone())?;
        *at += 1;
        if alone {
            self.first = self.first.max(*at);
        }
        Some(Ok(piece))
    }

    fn run(mut self, steps: Vec<Step>) -> Result<(), TestCaseError> {
        for step in steps {
            if self.copies.is_empty() {
                break;
            }
            let of = |copy: usize| copy % self.copies.len();
            match step {
                Step::Copy(copy) => {
                    let made = self.copies[of(copy)].0.try_clone();
                    prop_assert_eq!(made.is_some(), self.can_begin());
                    self.copies.extend(made.map(|body| (body, 0, 0)));
                }
                Step::Drop(copy) => drop(self.copies.swap_remove(of(copy))),
                Step::Poll(copy) => {
                    let copy = of(copy);
                    let expected = self.expected(copy);
                    let body = &mut self.copies[copy].0;
                    if body.is_end_stream() {
                        prop_assert!(expected.is_none());
                    }
                    prop_assert_eq!(next(body).map(|piece| piece.map_err(drop)), expected);
                }
            }
            let total: usize = self.all.iter().map(Piece::bytes).sum();
            for (body, at, _) in &self.copies {
                prop_assert_eq!(body.can_replay(), *at == 0 && self.can_begin());
                if !self.failed && *at >= self.first {
                    let given: usize = self.all[..*at].iter().map(Piece::bytes).sum();
                    prop_assert_eq!(body.size_hint().exact(), Some((total - given) as u64));
                }
            }
        }
        Ok(())
    }
}

fn any_pieces() -> impl Strategy<Value = Vec<Piece>> {
    let length = prop_oneof![Just(0_usize), 1..100_usize, 1_000..40_000_usize, Just(KEPT), Just(KEPT + 1)];
    let data =
        proptest::collection::vec((length, any::<u8>()).prop_map(|(length, fill)| data(length, fill)), 0..8);
    (data, any::<bool>(), proptest::option::weighted(0.2, 0..8_usize)).prop_map(|(mut all, ends, fails)| {
        if ends {
            all.push(trailers());
        }
        if let Some(at) = fails {
            all.insert(at.min(all.len()), Piece::Error);
        }
        all
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    (0..10_u8, any::<usize>()).prop_map(|(kind, copy)| match kind {
        0..=1 => Step::Copy(copy),
        2..=8 => Step::Poll(copy),
        _ => Step::Drop(copy),
    })
}

proptest! {
    #[test]
    fn copies_do_what_the_model_does(
        all in any_pieces(),
        slow in any::<bool>(),
        steps in proptest::collection::vec(any_step(), 0..60),
    ) {
        let copies = vec![(pieces(all.clone(), slow).0, 0, 0)];
        Model { all, pulled: 0, first: 0, turns: 0, failed: false, copies }.run(steps)?;
    }

    /// As retries use them: one after the other, each given up after some pieces.
    #[test]
    fn attempts_one_after_the_other_send_the_same_bytes(
        all in any_pieces().prop_map(|mut all| { all.retain(|piece| *piece != Piece::Error); all }),
        slow in any::<bool>(),
        given_up in proptest::collection::vec(0..10_usize, 1..5),
    ) {
        let (mut attempt, _) = pieces(all.clone(), slow);
        let mut furthest = 0;
        for pieces in given_up {
            let copy = attempt.try_clone().expect("it can be replayed");
            let sent: Vec<_> = std::iter::from_fn(|| next(&mut attempt)).take(pieces).map(Result::unwrap).collect();
            prop_assert_eq!(&sent, &all[..pieces.min(all.len())]);
            furthest = furthest.max(sent.len());
            drop(attempt);
            let cost: usize = all[..furthest].iter().map(Piece::cost).sum();
            prop_assert_eq!(copy.can_replay(), cost <= KEPT);
            attempt = copy;
            if cost > KEPT {
                return Ok(());
            }
        }
        prop_assert_eq!(rest(&mut attempt).unwrap(), all);
    }
}
