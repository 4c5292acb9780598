use std::time::Duration;

use buttress_bulkhead::{Bulkhead, BulkheadLayer, ByTask, Queue};
use buttress_circuit_breaker::{Breaker, CircuitBreaker, CircuitBreakerLayer};
use buttress_core::{Backoff, Classify, Deadline, Observe, Rejectable, Setting, SettingValue};
use buttress_rate_limit::{RateLimit, RateLimitLayer, Wait};
use buttress_retry::{Retry, RetryLayer};
use buttress_telemetry::{Convention, Measured, RegisterError, Registry, Slow, TelemetryLayer};
use buttress_timeout::{Timeout, TimeoutLayer};
use tower::util::{Either, option_layer};
use tower_layer::Layer;

use super::{
    admission::{Admitted, Gate},
    repeat::Repeat,
};
use crate::{
    Config,
    config::{self, Wrong},
    explain::{Repeats, Stack as Explained},
};

/// The layers before an adapter, and one service of them and it. What is off is not in the way but for one branch.
pub(crate) type Stack<S, V, C> = Admitted<Measured<Timeout<Limited<S, C>>, V, C>>;
type Limited<S, C> = Optional<RateLimit<Retried<S, C>, Wait>, Retried<S, C>>;
type Retried<S, C> = Optional<Retry<Broken<S, C>, C, Repeat>, Broken<S, C>>;
type Broken<S, C> = Optional<CircuitBreaker<Timed<S, C>, C>, Timed<S, C>>;
type Timed<S, C> = Optional<Timeout<Queued<S, C>>, Queued<S, C>>;
type Queued<S, C> = Optional<Bulkhead<Full<S, C>, Queue, ByTask, C>, Full<S, C>>;
type Full<S, C> = Optional<Bulkhead<S, buttress_bulkhead::Reject, ByTask, C>, S>;
pub(crate) type Optional<A, B> = Either<A, B>;

/// The layers of one part. A change makes another value of them, with the same windows, breakers and budgets.
#[derive(Clone)]
pub(crate) struct Layers<V, C> {
    pub(crate) gate: Gate,
    telemetry: TelemetryLayer<V, C>,
    total: TimeoutLayer,
    rate_limit: Option<RateLimitLayer<Wait>>,
    retry: Option<RetryLayer<C, Repeat>>,
    breaker: Option<CircuitBreakerLayer<C>>,
    attempt: Option<TimeoutLayer>,
    bulkhead: Option<BulkheadLayer<buttress_bulkhead::Reject, ByTask, C>>,
    queued: Option<BulkheadLayer<Queue, ByTask, C>>,
    values: Values,
}

/// What the configuration says of them, as they take it.
#[derive(Debug, Clone)]
pub(crate) struct Values {
    pub(crate) slow_call: Duration,
    pub(crate) timeout: Duration,
    pub(crate) attempt_timeout: Option<Duration>,
    pub(crate) rate_limit: Option<(buttress_rate_limit::Limit, Duration)>,
    pub(crate) retry: Option<RetryValues>,
    pub(crate) breaker: Option<buttress_circuit_breaker::Settings>,
    pub(crate) bulkhead: Option<(buttress_bulkhead::Limit, Option<Queue>, u32)>,
}

#[derive(Debug, Clone)]
pub(crate) struct RetryValues {
    retries: u32,
    backoff: Backoff,
    repeat: Repeat,
}

impl Values {
    pub(crate) fn of_database(config: &Config, database: &config::Database) -> Result<Self, Wrong> {
        let config::Database {
            timeout, attempt_timeout, rate_limit, retry, circuit_breaker, bulkhead, ..
        } = database;
        let limits = (*timeout, *attempt_timeout);
        Self::new(config, limits, rate_limit, Some(retry), circuit_breaker, bulkhead)
    }

    pub(crate) fn of_redis(config: &Config, redis: &config::Redis) -> Result<Self, Wrong> {
        let config::Redis { timeout, rate_limit, retry, circuit_breaker, bulkhead, .. } = redis;
        Self::new(config, (*timeout, None), rate_limit, retry.as_ref(), circuit_breaker, bulkhead)
    }

    pub(crate) fn of_http(config: &Config, http: &config::Http) -> Result<Self, Wrong> {
        let config::Http { timeout, attempt_timeout, rate_limit, retry, circuit_breaker, bulkhead, .. } =
            http;
        let limits = (*timeout, *attempt_timeout);
        Self::new(config, limits, rate_limit, Some(retry), circuit_breaker, bulkhead)
    }

    fn new(
        config: &Config,
        (timeout, attempt_timeout): (Duration, Option<Duration>),
        rate_limit: &Option<config::RateLimit>,
        retry: Option<&config::Retry>,
        breaker: &config::CircuitBreaker,
        bulkhead: &Option<config::Bulkhead>,
    ) -> Result<Self, Wrong> {
        let retry = retry.filter(|retry| retry.retries > 0).map(|retry| {
            let repeat = Repeat(retry.requests);
            retry.backoff().map(|backoff| RetryValues { retries: retry.retries, backoff, repeat })
        });
        let rate_limit = rate_limit.as_ref().map(|limit| Ok((limit.limit()?, limit.max_wait)));
        let bulkhead =
            bulkhead.as_ref().map(|bulkhead| Ok((bulkhead.limit()?, bulkhead.queue()?, bulkhead.limit)));
        Ok(Self {
            slow_call: config.telemetry.slow_call,
            timeout,
            attempt_timeout,
            rate_limit: rate_limit.transpose()?,
            retry: retry.transpose()?,
            breaker: breaker.enabled.then(|| breaker.settings()).transpose()?,
            bulkhead: bulkhead.transpose()?,
        })
    }
}

impl<V, C> Layers<V, C>
where
    V: Convention + Clone + Send + Sync,
    C: Clone + Send + Sync,
{
    /// All of them new.
    pub(crate) fn new(
        name: &str,
        registry: &Registry,
        gate: &Gate,
        convention: V,
        classify: C,
        values: Values,
    ) -> Result<Self, RegisterError> {
        let telemetry = TelemetryLayer::builder(name, registry)
            .convention(convention)
            .classify(classify.clone())
            .slow(Slow::After(values.slow_call))
            .build()?;
        let nothing = Self {
            gate: gate.clone(),
            telemetry,
            total: TimeoutLayer::new(values.timeout).name(name),
            rate_limit: None,
            retry: None,
            breaker: None,
            attempt: None,
            bulkhead: None,
            queued: None,
            values: values.clone(),
        };
        Ok(nothing.changed(name, &classify, values))
    }

    /// The same layers by other values: windows, breakers and budgets live on.
    pub(crate) fn changed(&self, name: &str, classify: &C, values: Values) -> Self {
        // A time can always be set, only a factor cannot.
        let _ = self.telemetry.set_slow(Slow::After(values.slow_call));
        let rate_limit = values.rate_limit.map(|(limit, wait)| match &self.rate_limit {
            Some(layer) if layer.limiter().set_limits([limit]).is_ok() => layer.clone().wait(wait),
            _ => RateLimitLayer::builder(name, limit).wait(wait).build(),
        });
        let retry = values.retry.as_ref().map(|retry| {
            let layer = match &self.retry {
                Some(layer) => layer.clone(),
                None => RetryLayer::new(name).classify(classify.clone()).requests(retry.repeat),
            };
            layer.retries(retry.retries).backoff(retry.backoff).requests(retry.repeat)
        });
        let breaker = values.breaker.map(|settings| match &self.breaker {
            Some(layer) => {
                layer.breaker().configure(settings);
                layer.clone()
            }
            None => CircuitBreakerLayer::builder(name).settings(settings).classify(classify.clone()).build(),
        });
        let (mut bulkhead, mut queued) = (None, None);
        if let Some((limit, queue, calls)) = values.bulkhead {
            // A queue is what it was made as: with another one the calls before end in the old.
            let same_queue = self.values.bulkhead.as_ref().is_some_and(|(_, before, _)| *before == queue);
            let kept = |limiter: buttress_bulkhead::Limiter| same_queue && limiter.set_limit(calls).is_ok();
            match queue {
                Some(queue) => {
                    queued = Some(match &self.queued {
                        Some(layer) if kept(layer.limiter()) => layer.clone(),
                        _ => BulkheadLayer::builder(name, limit)
                            .queue(queue)
                            .classify(classify.clone())
                            .build(),
                    });
                }
                None => {
                    bulkhead = Some(match &self.bulkhead {
                        Some(layer) if kept(layer.limiter()) => layer.clone(),
                        _ => BulkheadLayer::builder(name, limit).classify(classify.clone()).build(),
                    });
                }
            }
        }
        let attempt =
            values.attempt_timeout.map(|limit| TimeoutLayer::new(limit).name(&format!("{name} attempt")));
        let total = TimeoutLayer::new(values.timeout).name(name);
        let (gate, telemetry) = (self.gate.clone(), self.telemetry.clone());
        Self { gate, telemetry, total, rate_limit, retry, breaker, attempt, bulkhead, queued, values }
    }

    /// These layers before an adapter.
    pub(crate) fn service<S: Clone>(&self, adapter: S) -> Stack<S, V, C> {
        let inner = option_layer(self.bulkhead.clone()).layer(adapter);
        let inner = option_layer(self.queued.clone()).layer(inner);
        let inner = option_layer(self.attempt).layer(inner);
        let inner = option_layer(self.breaker.clone()).layer(inner);
        let inner = option_layer(self.retry.clone()).layer(inner);
        let inner = option_layer(self.rate_limit.clone()).layer(inner);
        self.gate.layer(self.telemetry.layer(self.total.layer(inner)))
    }

    /// The breaker alone before an adapter.
    pub(crate) fn behind_the_breaker<S>(&self, adapter: S) -> Optional<CircuitBreaker<S, C>, S> {
        option_layer(self.breaker.clone()).layer(adapter)
    }

    /// Shows them as a stack, outermost first, with what they stand before.
    pub(crate) fn register(
        &self,
        name: &str,
        registry: &Registry,
        adapter: &dyn Observe,
    ) -> Result<(), RegisterError> {
        let stack = self.fold(registry.stack(name), |stack, layer| stack.layer(layer));
        stack.layer(adapter).replace()
    }

    /// The same to be explained, still without the adapter.
    pub(crate) fn explained(&self, name: &str) -> Explained {
        let repeats = match self.values.retry.as_ref().map(|retry| retry.repeat.0) {
            Some(config::Requests::All) => Repeats::All,
            _ => Repeats::Safe,
        };
        self.fold(Explained::new(name).repeats(repeats), |stack, layer| {
            let stack = stack.layer(layer);
            match self.values.rate_limit {
                // It is the layer's, and so the limiter does not tell it.
                Some((_, wait)) if layer.origin().layer() == "rate-limit" => {
                    stack.also(Setting::new("wait", SettingValue::Duration(wait)))
                }
                _ => stack,
            }
        })
    }

    /// Over all that are on, outermost first.
    fn fold<T>(&self, stack: T, add: impl Fn(T, &dyn Observe) -> T) -> T {
        let mut stack = add(add(stack, &self.telemetry), &self.total);
        if let Some(layer) = &self.rate_limit {
            stack = add(stack, &layer.limiter());
        }
        if let Some(layer) = &self.retry {
            stack = add(stack, &layer.retrier());
        }
        if let Some(layer) = &self.breaker {
            stack = add(stack, &layer.breaker());
        }
        if let Some(layer) = &self.attempt {
            stack = add(stack, layer);
        }
        if let Some(layer) = &self.queued {
            stack = add(stack, &layer.limiter());
        }
        if let Some(layer) = &self.bulkhead {
            stack = add(stack, &layer.limiter());
        }
        stack
    }

    /// The same for work that is no request of the adapter, and so is never repeated: it passes the total timeout, the rate
    /// limit, the breaker and the bulkhead. (The timeout of an attempt is one statement's, and this may be many.)
    pub(crate) async fn pass<T, E, F>(&self, classify: impl Classify<T, E>, work: F) -> Result<T, E>
    where
        F: AsyncFnOnce() -> Result<T, E>,
        E: Rejectable,
    {
        let passed = async move {
            if let (Some(layer), Some((_, longest))) = (&self.rate_limit, self.values.rate_limit) {
                layer.limiter().acquire(1, longest).await?;
            }
            let permit = self.breaker().map(|breaker| breaker.acquire()).transpose()?;
            let limiter = self.queued.as_ref().map(BulkheadLayer::limiter);
            let place = match limiter.or_else(|| self.bulkhead.as_ref().map(BulkheadLayer::limiter)) {
                Some(limiter) => Some(limiter.acquire().await?),
                None => None,
            };
            let result = work().await;
            let outcome = classify.classify(&result);
            if let Some(permit) = permit {
                permit.finish(outcome);
            }
            if let Some(place) = place {
                place.finish(outcome);
            }
            result
        };
        Deadline::after(self.values.timeout).scope(passed).await
    }

    /// Takes those out of the registry that are not among `others`: their names are free.
    pub(crate) fn leave(&self, others: Option<&Self>, registry: &Registry) {
        let others = others.map(Self::names).unwrap_or_default();
        for (layer, name) in self.names().into_iter().filter(|it| !others.contains(it)) {
            registry.remove(layer, name);
        }
    }

    fn names(&self) -> Vec<(&'static str, &'static str)> {
        self.fold(Vec::new(), |mut names, layer| {
            names.push((layer.origin().layer(), layer.origin().name()));
            names
        })
    }

    pub(crate) fn breaker(&self) -> Option<Breaker> {
        self.breaker.as_ref().map(CircuitBreakerLayer::breaker)
    }
}
