use std::error::Error;

/// Whether an HTTP/2 server said that it did not look at the request: it refused its stream, or it went away and named an
/// earlier stream as the last one that it may have acted on (RFC 9113, 8.7 and 6.8; h2 gives that error to later ones alone).
pub(crate) fn by_the_server(error: &hyper::Error) -> bool {
    let below = error.source().and_then(|below| below.downcast_ref::<h2::Error>());
    below.is_some_and(|error| {
        let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        error.is_remote() && (refused || error.is_go_away())
    })
}
