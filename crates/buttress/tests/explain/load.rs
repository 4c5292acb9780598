use buttress::{
    explain::Severity::{Note, Warning},
    hedge::{CloneRequest, HedgeLayer},
};

use super::*;

#[test]
fn a_bulkhead_lets_no_more_in_than_the_pool_carries() {
    let of = |limit| found(stack(&[&total(30 * SEC), &bulkhead(limit), &postgres()]));
    let text = "bulkhead `room` lets 51 calls in, and postgres `shop` has 20 + 30 = 50 connections: 1 of them wait inside for \
                a connection, with a permit";
    assert_eq!(texts(&of(51)), [(Warning, text)]);
    assert_eq!(of(50), []);

    let hedge = HedgeLayer::new("twice", CloneRequest).hedger();
    let hedged = |limit| about("permit", stack(&[&total(30 * SEC), &bulkhead(limit), &hedge, &postgres()]));
    assert!(hedged(26)[0].1.contains("lets 26 x 2 attempts in"), "{:?}", hedged(26));
    assert_eq!(hedged(25), []);

    // By HTTP/2 one connection carries many calls, and an inner bulkhead or a batch decides for itself.
    let web = |http2| about("permit", stack(&[&total(30 * SEC), &bulkhead(11), &http(http2)]));
    assert!(web(false)[0].1.contains("http `web` has 10 connections: 1 of them"));
    assert_eq!(web(true), []);
    let inner = BulkheadLayer::new("inner", Limit::fixed(50).unwrap()).limiter();
    assert_eq!(found(stack(&[&total(30 * SEC), &bulkhead(100), &inner, &postgres()])), []);
    assert_eq!(
        about("permit", stack(&[&total(30 * SEC), &bulkhead(100), &batch(Duration::ZERO), &postgres()])),
        []
    );
}

#[test]
fn a_rate_is_carried_by_the_pool() {
    let of = |units| found(stack(&[&total(10 * SEC), &rate(units), &postgres()]));
    let text = "rate-limit `pace` lets 6 calls in 1s through, and postgres `shop` has 50 connections: enough while a call \
                takes 8.333s on average, and it may take 10s";
    assert_eq!(texts(&of(6)), [(Note, text)]);
    assert_eq!(of(5), []);
    assert_eq!(found(stack(&[&total(10 * SEC), &rate(6), &bulkhead(50), &postgres()])), []);
}

#[test]
fn a_batch_can_fill_up() {
    let of = |limit, linger| found(stack(&[&total(10 * SEC), &bulkhead(limit), &batch(linger)]));
    let text = "bulkhead `room` lets 63 calls in, fewer than the 64 of a full batch of batch `gather`: every batch lingers all \
                of 1s";
    assert_eq!(texts(&of(63, SEC)), [(Note, text)]);
    assert_eq!(of(64, SEC), []);
    assert_eq!(of(63, Duration::ZERO), []);
}
