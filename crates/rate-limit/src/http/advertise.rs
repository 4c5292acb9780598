use std::{
    fmt::{self, Write as _},
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, HeaderValue, Response, StatusCode};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    InvalidName, Policy, Quotas, Subjects,
    fields::{RATELIMIT, RATELIMIT_POLICY},
    policy::Quoted,
    say::say,
};

/// Says a limiter's policies and quotas in every response, as `RateLimit-Policy` and `RateLimit`.
///
/// It takes nothing from the limiter, and stands outside of it and of what makes responses of its rejections, so that
/// those have the fields too. See the [module's documentation](super).
pub struct AdvertiseLayer<Q>(Arc<Said<Q>>);

struct Said<Q> {
    quotas: Q,
    policies: HeaderValue,
    names: Box<[String]>,
    /// Of each policy what goes before its number: `"search";r=`.
    heads: Box<[String]>,
}

impl<Q: Quotas> AdvertiseLayer<Q> {
    /// Says those of this limiter. Several are a pair, or a pair of pairs.
    ///
    /// # Errors
    /// Where a header field cannot carry the name of a policy, or two have the same.
    pub fn try_new(quotas: Q) -> Result<Self, InvalidName> {
        let all = quotas.policies()?;
        if let Some(twice) = all.iter().enumerate().find(|(at, policy)| named(&all[..*at], policy.name())) {
            return Err(InvalidName::Twice { name: twice.1.name().to_owned() });
        }
        let field = all.iter().map(Policy::to_string).collect::<Vec<_>>().join(", ");
        let said = Said {
            quotas,
            policies: printable(field),
            names: all.iter().map(|policy| policy.name().to_owned()).collect(),
            heads: all.iter().map(|policy| format!("{};r=", Quoted(policy.name()))).collect(),
        };
        Ok(Self(Arc::new(said)))
    }
}

fn printable(field: String) -> HeaderValue {
    HeaderValue::try_from(field).expect("a policy's name is printable ASCII")
}

fn named(policies: &[Policy], name: &str) -> bool {
    policies.iter().any(|policy| policy.name() == name)
}

impl<Q: Quotas> Said<Q> {
    fn say(&self, subject: &Q::Subject, status: StatusCode, headers: &mut HeaderMap) {
        let mut used_up = false;
        let mut field = String::with_capacity(self.heads.iter().map(|head| head.len() + 32).sum());
        let mut heads = self.heads.iter();
        self.quotas.quotas(subject, &mut |left| {
            // One that tells more than it has policies is not listened to.
            let Some(head) = heads.next() else { return };
            let separator = if field.is_empty() { "" } else { ", " };
            used_up |= left.units == 0;
            let written = match left.seconds() {
                Some(seconds) => write!(field, "{separator}{head}{};t={seconds}", left.units),
                None => write!(field, "{separator}{head}{}", left.units),
            };
            written.expect("a string takes everything");
        });
        if field.is_empty() {
            return;
        }
        say(headers, &RATELIMIT_POLICY, self.policies.clone(), &self.names);
        // It was refused for what is none of these: because it would have taken more than is left, or for a limit that is
        // not told. What it says of that stays.
        if status == StatusCode::TOO_MANY_REQUESTS && !used_up && headers.contains_key(RATELIMIT) {
            return;
        }
        say(headers, &RATELIMIT, printable(field), &self.names);
    }
}

impl<Q> Clone for AdvertiseLayer<Q> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<Q> fmt::Debug for AdvertiseLayer<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AdvertiseLayer").field(&self.0.policies).finish()
    }
}

impl<S, Q> Layer<S> for AdvertiseLayer<Q> {
    type Service = Advertise<S, Q>;

    fn layer(&self, inner: S) -> Self::Service {
        Advertise { inner, layer: self.clone() }
    }
}

/// The service of [`AdvertiseLayer`].
#[derive(Debug)]
pub struct Advertise<S, Q> {
    inner: S,
    layer: AdvertiseLayer<Q>,
}

impl<S: Clone, Q> Clone for Advertise<S, Q> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S, Q, Req, B> Service<Req> for Advertise<S, Q>
where
    S: Service<Req, Response = Response<B>>,
    Q: Quotas + Subjects<Req, Subject = <Q as Quotas>::Subject>,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = AdvertiseFuture<S::Future, Q>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let layer = self.layer.clone();
        let subject = layer.0.quotas.subject(&request);
        AdvertiseFuture { future: self.inner.call(request), layer, subject }
    }
}

pin_project! {
    /// The future of [`Advertise`].
    #[must_use = "futures do nothing unless polled"]
    pub struct AdvertiseFuture<F, Q: Quotas> {
        #[pin]
        future: F,
        layer: AdvertiseLayer<Q>,
        subject: Q::Subject,
    }
}

impl<F, Q: Quotas> fmt::Debug for AdvertiseFuture<F, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdvertiseFuture").field("layer", &self.layer).finish_non_exhaustive()
    }
}

impl<F, Q, B, E> Future for AdvertiseFuture<F, Q>
where
    F: Future<Output = Result<Response<B>, E>>,
    Q: Quotas,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut result = ready!(this.future.poll(cx));
        if let Ok(response) = &mut result {
            this.layer.0.say(this.subject, response.status(), response.headers_mut());
        }
        Poll::Ready(result)
    }
}
