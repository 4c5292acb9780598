//! What a collector has received, by its name.

use std::time::Duration;

use buttress_testkit::Collector;
use opentelemetry_proto::tonic::{
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};

const LONG_ENOUGH: Duration = Duration::from_secs(10);

pub trait Received {
    /// The span of that name, which is there.
    fn named(&self, name: &str) -> Span;

    /// An attribute of the resource that sent spans last.
    fn resource(&self, key: &str) -> Option<String>;

    /// A header of the last export.
    fn header(&self, name: &str) -> Option<String>;

    /// Waits until so many exports came, whatever became of them.
    async fn requests(&self, count: usize);

    /// Waits until so many spans came.
    async fn arrived(&self, count: usize);
}

impl Received for Collector {
    fn named(&self, name: &str) -> Span {
        let spans = self.spans();
        let found = spans.iter().find(|span| span.name == name);
        found.unwrap_or_else(|| panic!("no span {name} in {spans:#?}")).clone()
    }

    fn resource(&self, key: &str) -> Option<String> {
        let traces = self.traces();
        let spans = traces.last()?.resource_spans.last()?;
        text(&spans.resource.as_ref()?.attributes, key)
    }

    fn header(&self, name: &str) -> Option<String> {
        self.metadata()?.get(name).map(|value| value.to_str().unwrap().to_owned())
    }

    async fn requests(&self, count: usize) {
        let came = self.wait(LONG_ENOUGH, || (self.attempts() >= count).then_some(())).await;
        assert!(came.is_some(), "{} of {count} exports", self.attempts());
    }

    async fn arrived(&self, count: usize) {
        let came = self.wait(LONG_ENOUGH, || (self.spans().len() >= count).then_some(())).await;
        assert!(came.is_some(), "{} of {count} spans", self.spans().len());
    }
}

/// An attribute, as text.
pub fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let mut found = attributes.iter().filter(|attribute| attribute.key == key);
    let value = found.next()?.value.clone()?.value?;
    assert!(found.next().is_none(), "{key} is there twice");
    Some(match value {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        Value::BoolValue(is) => is.to_string(),
        other => panic!("{other:?}"),
    })
}
