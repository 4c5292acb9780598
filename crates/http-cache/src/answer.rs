//! Responses made of stored ones.

use buttress_core::{Decision, Reason};
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header, request};

use crate::{
    ResponseBody,
    cache::Inner,
    rules::{CacheStatus, Moment, Slice},
    shelf::{Content, Entry},
};

impl Inner {
    /// The answer to a request that a stored response is right for; none, if its body is no longer to be had.
    pub(crate) fn answer<B>(
        &self,
        entry: &Entry,
        request: &request::Parts,
        now: Moment,
        status: &CacheStatus,
    ) -> Option<Response<ResponseBody<B>>> {
        let stored = &entry.stored;
        let mut response = if stored.is_not_modified_for(request) {
            let mut response = Response::new(ResponseBody::default());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            *response.headers_mut() = stored.not_modified_headers(now);
            response
        } else {
            let mut response = Response::new(ResponseBody::default());
            *response.status_mut() = stored.status();
            *response.headers_mut() = stored.answer_headers(now);
            match &entry.content {
                Content::Growing(growing, length) if request.method != Method::HEAD => {
                    *response.body_mut() = ResponseBody::growing(growing.reader()?, Some(*length));
                }
                Content::Growing(..) => {}
                Content::Whole(bytes) => whole(&mut response, bytes, entry, request),
            }
            response
        };
        self.say(status, &mut response);
        Some(response)
    }

    /// Tells in `Cache-Status` how the cache came to this answer.
    pub(crate) fn say<B>(&self, status: &CacheStatus, response: &mut Response<B>) {
        if let Some(name) = &self.status_name {
            status.add_to(response.headers_mut(), name);
        }
    }

    /// `504`, where the client takes nothing but what is stored (RFC 9111, section 5.2.1.7).
    pub(crate) fn not_cached<B>(&self) -> Response<ResponseBody<B>> {
        let mut response = Response::new(ResponseBody::default());
        *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        response
    }

    pub(crate) fn too_late<E: From<buttress_core::Rejected>>(&self) -> E {
        Decision::note(self.origin, "gave_up", || {
            "the caller's deadline passed while another request was answered".into()
        });
        self.origin.reject(Reason::DeadlineExceeded).into()
    }
}

fn whole<B>(
    response: &mut Response<ResponseBody<B>>,
    bytes: &Bytes,
    entry: &Entry,
    request: &request::Parts,
) {
    let status = response.status();
    if status == StatusCode::NO_CONTENT {
        // RFC 9110, section 8.6.
        response.headers_mut().remove(header::CONTENT_LENGTH);
        return;
    }
    let length = bytes.len() as u64;
    let sent = match Slice::of(request, &entry.stored, length) {
        Slice::Whole => bytes.clone(),
        slice @ Slice::Unsatisfiable => {
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            // What the fields say of the response, and of how long it may be kept, is not true of this one.
            let date = response.headers_mut().remove(header::DATE);
            response.headers_mut().clear();
            date.into_iter().for_each(|date| _ = response.headers_mut().insert(header::DATE, date));
            content_range(response, &slice, length);
            Bytes::new()
        }
        Slice::Part(range) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            OF_THE_WHOLE.iter().for_each(|name| _ = response.headers_mut().remove(*name));
            let sent = usize::try_from(*range.start()).ok().zip(usize::try_from(*range.end()).ok());
            content_range(response, &Slice::Part(range), length);
            sent.map_or_else(Bytes::new, |(first, last)| bytes.slice(first..=last))
        }
    };
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(sent.len() as u64));
    if request.method != Method::HEAD {
        *response.body_mut() = ResponseBody::whole(sent);
    }
}

/// They are about the content of the message, which is a part here.
const OF_THE_WHOLE: [&str; 2] = ["content-digest", "content-md5"];

fn content_range<B>(response: &mut Response<B>, slice: &Slice, length: u64) {
    if let Some(range) = slice.content_range(length) {
        response.headers_mut().insert(header::CONTENT_RANGE, range);
    }
}
