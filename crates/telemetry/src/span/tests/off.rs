use crate::{
    Label, Side,
    source::End,
    span::{CallSpan, SpanEnd, SpanSettings},
};

#[test]
fn without_the_feature_a_span_is_nothing() {
    assert_eq!(size_of::<CallSpan>(), 0);
    let settings = SpanSettings { name: "orders", side: Side::Client, common: Vec::new() };
    let attributes = [("a", Label::Number(1))];
    let span = CallSpan::begin(&settings, "get", &attributes);
    assert_eq!(span.enter(|| 7), 7);
    assert!(!span.wants_end(End::Panicked, true));
    let end = SpanEnd {
        operation: "get",
        attributes: &attributes,
        end: End::Panicked,
        error: None,
        latency: std::time::Duration::ZERO,
        is_slow: true,
        decisions: &[],
    };
    assert_eq!(span.end(&settings, &end), None);
}
