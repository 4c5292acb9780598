use std::{
    borrow::Cow,
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use buttress_core::Value;
use foldhash::fast::RandomState;
use opentelemetry::{Key, KeyValue, StringValue, metrics::Meter};
use tokio::time::Instant;

use crate::{Handle, Registry, naming, registry::WeakRegistry, totals::Totals};

impl Registry {
    /// Exports the figures of all layers, those registered later included, as observable instruments of that meter. Call it
    /// once for each meter provider.
    ///
    /// A figure of a layer is the instrument `buttress.<layer>.<figure>`: a counter or a gauge, with the attributes
    /// `buttress.name` (the instance), `buttress.stack` (where it stands in exactly one) and that of its label, such as
    /// `buttress.reason`. Beside them are `buttress.layers`, how many layers live, and `buttress.slow_calls`. Calls pay
    /// nothing: the figures are read when the meter's reader collects, in one pass over all layers.
    ///
    /// A figure that shows up later, such as the first rejection, is exported from the next collection on, or from the one
    /// after: its instrument is made by a short-lived thread, since a meter cannot make any while it collects.
    ///
    /// Counters never go backwards, as OpenTelemetry demands: where a layer is dropped and another one made under its name,
    /// the new one's counts are added to what the old one was last seen with. Calls between the last collection and the
    /// drop are lost. A layer that panics when it is asked is left out of that collection.
    ///
    /// The meter lives for as long as the registry; neither the registry nor a layer is kept alive. The SDK keeps 2,000
    /// combinations of attributes for an instrument and counts further ones together as `otel.metric.overflow`; a view
    /// with a higher `cardinality_limit` raises that.
    pub fn export_to(&self, meter: &Meter) {
        let export = Arc::new(Export {
            registry: self.downgrade(),
            meter: meter.clone(),
            state: Mutex::new(State::default()),
        });
        export.read(&mut export.state());
        export.make_missing();
        self.keep(export);
    }
}

/// One meter to which a registry exports. Its callbacks hold it weakly, the registry strongly.
pub(crate) struct Export {
    registry: WeakRegistry,
    meter: Meter,
    /// Taken by what collects, never by a call.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    instruments: Vec<Instrument>,
    index: HashMap<Id, usize, RandomState>,
    totals: Totals,
    /// The keys of attributes that labels are.
    keys: HashMap<&'static str, Key, RandomState>,
    read_at: Option<Instant>,
    /// A thread is on its way.
    is_making: bool,
}

/// The layer, empty for the registry's own; the figure; whether it is a counter.
type Id = (&'static str, &'static str, bool);

struct Instrument {
    id: Id,
    unit: &'static str,
    exists: bool,
    /// What the latest pass found, and whether that is still to be told.
    points: Vec<(Value, Vec<KeyValue>)>,
    is_fresh: bool,
}

/// More instruments are not made. Their names are in the layers' code, so there are some dozens.
const MAX_INSTRUMENTS: usize = 1000;

/// What a pass found and nobody has told since is not told later than this.
const MAX_AGE: Duration = Duration::from_secs(1);

const NAME: Key = Key::from_static_str("buttress.name");
const STACK: Key = Key::from_static_str("buttress.stack");

impl Export {
    /// Tells an instrument's points. The first one that is asked in a collection reads those of all: whoever is asked twice
    /// is in another collection.
    fn tell(self: &Arc<Self>, at: usize, mut tell: impl FnMut(Value, &[KeyValue])) {
        let mut state = self.state();
        let is_old = state.read_at.is_none_or(|read| read.elapsed() > MAX_AGE);
        if is_old || !state.instruments[at].is_fresh {
            self.read(&mut state);
        }
        let instrument = &mut state.instruments[at];
        instrument.is_fresh = false;
        // Under the lock, so that of two readers none tells what is older than what the other told.
        instrument.points.iter().for_each(|(value, attributes)| tell(*value, attributes));
        if !state.is_making && state.instruments.iter().any(|instrument| !instrument.exists) {
            // The meter holds a lock while it calls us, and takes it for each new instrument.
            let export = Arc::clone(self);
            let thread = thread::Builder::new().name("buttress-instruments".into());
            state.is_making = thread.spawn(move || export.make_missing()).is_ok();
        }
    }

    /// The pass over all layers.
    fn read(&self, state: &mut State) {
        for instrument in &mut state.instruments {
            instrument.points.clear();
            instrument.is_fresh = true;
        }
        state.read_at = Some(Instant::now());
        let Some(registry) = self.registry.upgrade() else { return };
        let handles = registry.handles();
        state.totals.begin();
        for handle in &handles {
            state.add_all(handle);
        }
        state.totals.end();
        let layers = u32::try_from(handles.len()).unwrap_or(u32::MAX);
        state.add("", "layers", "{layer}", Value::Gauge(layers.into()), Vec::new());
        state.add("", "slow_calls", "{call}", Value::Counter(registry.slow_calls_total()), Vec::new());
    }

    fn make_missing(self: &Arc<Self>) {
        let mut missing = Vec::new();
        for (at, instrument) in self.state().instruments.iter_mut().enumerate() {
            if !instrument.exists {
                instrument.exists = true;
                missing.push((at, instrument.id, instrument.unit));
            }
        }
        for (at, id, unit) in missing {
            self.make(at, id, unit);
        }
        self.state().is_making = false;
    }

    fn make(self: &Arc<Self>, at: usize, (layer, metric, is_counter): Id, unit: &'static str) {
        let name = naming::instrument(layer, metric);
        let description = naming::description(layer, metric);
        let export = Arc::downgrade(self);
        if is_counter {
            let counter =
                self.meter.u64_observable_counter(name).with_description(description).with_unit(unit);
            _ = counter
                .with_callback(move |observer| {
                    let Some(export) = export.upgrade() else { return };
                    export.tell(at, |value, attributes| {
                        if let Value::Counter(count) = value {
                            // OTLP counts in an `i64`.
                            observer.observe(count.min(i64::MAX as u64), attributes);
                        }
                    });
                })
                .build();
        } else {
            let gauge = self.meter.f64_observable_gauge(name).with_description(description).with_unit(unit);
            _ = gauge
                .with_callback(move |observer| {
                    let Some(export) = export.upgrade() else { return };
                    export.tell(at, |value, attributes| {
                        if let Value::Gauge(gauge) = value {
                            observer.observe(gauge, attributes);
                        }
                    });
                })
                .build();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add_all(&mut self, handle: &Handle) {
        let origin = handle.observe.origin();
        let name = text(naming::value(origin.name()));
        let stack = match &*handle.stacks {
            [stack] => Some(match naming::value(stack) {
                Cow::Borrowed(_) => StringValue::from(Arc::clone(stack)),
                Cow::Owned(changed) => changed.into(),
            }),
            _ => None,
        };
        for metric in handle.figures() {
            let value = match metric.value {
                Value::Counter(count) => match self.totals.add(origin, &metric, count) {
                    Some(total) => Value::Counter(total),
                    // The first one stays, as on the page for Prometheus.
                    None => continue,
                },
                gauge => gauge,
            };
            let mut attributes = Vec::with_capacity(3);
            attributes.push(KeyValue::new(NAME, name.clone()));
            attributes.extend(stack.clone().map(|stack| KeyValue::new(STACK, stack)));
            attributes.extend(metric.label.map(|label| self.label(label)));
            self.add(origin.layer(), metric.name, naming::unit(&metric), value, attributes);
        }
    }

    fn label(&mut self, (key, value): (&'static str, &'static str)) -> KeyValue {
        let known = self.keys.entry(key);
        // A clone of an `Arc` is no allocation.
        let key = known.or_insert_with(|| Key::from(Arc::<str>::from(format!("buttress.{key}"))));
        KeyValue::new(key.clone(), text(naming::value(value)))
    }

    fn add(
        &mut self,
        layer: &'static str,
        metric: &'static str,
        unit: &'static str,
        value: Value,
        attributes: Vec<KeyValue>,
    ) {
        let id = (layer, metric, matches!(value, Value::Counter(_)));
        let at = match self.index.get(&id) {
            Some(at) => *at,
            None if self.instruments.len() == MAX_INSTRUMENTS => return,
            None => {
                self.index.insert(id, self.instruments.len());
                self.instruments.push(Instrument {
                    id,
                    unit,
                    exists: false,
                    points: Vec::new(),
                    is_fresh: false,
                });
                if self.instruments.len() == MAX_INSTRUMENTS {
                    tracing::warn!(
                        "{MAX_INSTRUMENTS} instruments: further figures of layers are not exported"
                    );
                }
                self.instruments.len() - 1
            }
        };
        self.instruments[at].points.push((value, attributes));
    }
}

fn text(value: Cow<'static, str>) -> StringValue {
    match value {
        Cow::Borrowed(text) => text.into(),
        Cow::Owned(text) => Arc::<str>::from(text).into(),
    }
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export").finish_non_exhaustive()
    }
}
