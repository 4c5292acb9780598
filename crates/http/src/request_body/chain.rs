//! Bodies one after the other.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
};

use buttress_core::BoxError;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Bytes;

use super::Body;

/// As one body, of the sum of their lengths where all of them are known. Trailers within are left out.
pub(super) struct Chain(pub(super) VecDeque<Body>);

impl HttpBody for Chain {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        while let Some(body) = self.0.front_mut() {
            match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) if !frame.is_data() => {}
                None => drop(self.0.pop_front()),
                frame => return Poll::Ready(frame),
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.0.iter().all(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let mut sum = SizeHint::with_exact(0);
        for hint in self.0.iter().map(HttpBody::size_hint) {
            let upper = sum.upper().zip(hint.upper()).and_then(|(sum, upper)| sum.checked_add(upper));
            let lower = sum.lower().saturating_add(hint.lower());
            sum = SizeHint::new();
            sum.set_lower(lower);
            if let Some(upper) = upper {
                sum.set_upper(upper);
            }
        }
        sum
    }
}
