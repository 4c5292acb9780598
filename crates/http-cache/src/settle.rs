//! What becomes of the service's answer.

use std::sync::Arc;

use buttress_cache::Leader;
use buttress_core::BoxError;
use bytes::Bytes;
use http::{Method, Response, StatusCode, response};
use http_body::Body;

use crate::{
    ResponseBody,
    changes::Asked,
    exchange::Exchange,
    flight::Brought,
    growing::{Done, Growing, Limit},
    key::Key,
    rules::{CacheStatus, Freshened, HeadUpdate, Moment, NotStored, Rules, Stored},
    shelf::{Content, Entry},
    stats::count,
};

type Lead = Leader<Key, Brought>;

/// When a request was sent, and when its answer came.
#[derive(Clone, Copy)]
pub(crate) struct Times {
    /// In the order of changes.
    pub(crate) asked: Asked,
    pub(crate) sent: Moment,
    pub(crate) received: Moment,
}

impl<S> Exchange<S> {
    /// `304` to a condition of the cache: the stored responses that it is about are fresh again (RFC 9111, section 4.3.4).
    /// The answer, if the one for this request is among them.
    pub(crate) fn still_right<B>(
        &self,
        head: &response::Parts,
        leader: &mut Option<Lead>,
        times: Times,
    ) -> Option<Response<ResponseBody<B>>> {
        let cache = &self.cache;
        let variants = cache.shelf.variants(&self.key);
        let mut mine: Option<Arc<Entry>> = None;
        let (mut kept, mut gone) = (Vec::new(), Vec::new());
        let stored = variants.iter().flat_map(|variants| variants.iter());
        // The selected one may have been driven out meanwhile, and answers this request all the same.
        let selected = self.selected.iter().filter(|selected| {
            !variants.iter().flat_map(|variants| variants.iter()).any(|entry| entry.id == selected.id)
        });
        for entry in stored.chain(selected) {
            if !cache.rules.matches(&entry.stored, &self.request) {
                continue;
            }
            let Times { sent, received, .. } = times;
            let fresh = match cache.rules.freshen(&entry.stored, &self.request, head, sent, received) {
                Freshened::Unrelated => continue,
                Freshened::Kept(stored) => {
                    let fresh = cache.shelf.entry(stored, entry.content.clone());
                    kept.push((entry.id, fresh.clone()));
                    fresh
                }
                Freshened::Once(stored) => {
                    gone.push(entry.id);
                    cache.shelf.entry(stored, entry.content.clone())
                }
            };
            let newer = mine.as_ref().is_none_or(|mine| !mine.stored.is_newer_than(&fresh.stored));
            if newer {
                mine = Some(fresh);
            }
        }
        let status = CacheStatus::forward(self.why).forward_status(StatusCode::NOT_MODIFIED);
        let mine = mine?;
        let response = cache.answer(
            &mine,
            &self.request,
            times.received,
            &status.ttl(mine.stored.ttl(times.received)),
        )?;
        count(&cache.counters.revalidated);
        let put = || {
            cache.shelf.replace(&self.key, &kept, times.asked);
        };
        match leader.take() {
            Some(leader) if gone.is_empty() => {
                leader.land_with(Brought::Entry(mine), put);
            }
            other => {
                put();
                cache.shelf.let_go(&self.key, |entry| gone.contains(&entry.id));
                self.apart(other);
            }
        }
        Some(response)
    }

    /// Any other answer: stored, where that may be, while it is passed on.
    pub(crate) fn answered<B>(
        self,
        response: Response<B>,
        leader: Option<Lead>,
        times: Times,
    ) -> Response<ResponseBody<B>>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let status = response.status();
        let says = CacheStatus::forward(self.why).forward_status(status);
        if Rules::is_failure(status)
            && let Some(stale) = self.in_place_of_an_error(Some(status))
        {
            leader.into_iter().for_each(|leader| leader.land(Brought::Failing));
            return stale;
        }
        let (head, body) = response.into_parts();
        match self.cache.rules.storable(&self.request, &head, times.sent, times.received) {
            Ok(stored) => self.store(stored, head, body, leader, times, says),
            Err(why) => {
                self.outdate(&head, why, times);
                self.apart(leader);
                self.pass(head, body, says.detail(why.as_str()))
            }
        }
    }

    /// What an answer that is not stored says about those that are.
    fn outdate(&self, head: &response::Parts, why: NotStored, times: Times) {
        let shelf = &self.cache.shelf;
        if self.request.method == Method::HEAD {
            let Some(variants) = shelf.variants(&self.key) else { return };
            let Times { asked, sent, received } = times;
            for entry in variants.iter() {
                match self.cache.rules.after_head(&entry.stored, &self.request, head, sent, received) {
                    HeadUpdate::Freshened(stored) => {
                        let fresh = shelf.entry(stored, entry.content.clone());
                        shelf.replace(&self.key, &[(entry.id, fresh)], asked);
                    }
                    HeadUpdate::Outdated => shelf.let_go(&self.key, |old| old.id == entry.id),
                    HeadUpdate::Unrelated => {}
                }
            }
        } else if let Some(selected) = &self.selected
            && why != NotStored::RequestNoStore
            && head.status != StatusCode::NOT_MODIFIED
            && !head.status.is_server_error()
        {
            // There is another now, and it is not to be stored.
            shelf.let_go(&self.key, |old| old.id == selected.id);
        }
    }

    fn store<B>(
        self,
        stored: Stored,
        head: response::Parts,
        body: B,
        leader: Option<Lead>,
        times: Times,
        says: CacheStatus,
    ) -> Response<ResponseBody<B>>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let announced = stored.content_length().or_else(|| body.size_hint().exact());
        if announced.is_some_and(|length| length > self.cache.max_body) {
            self.apart(leader);
            return self.pass(head, body, says.detail("too-large"));
        }
        if body.is_end_stream() {
            // Such as `204`. Where content was announced, there was none.
            if announced.is_some_and(|length| length > 0) {
                self.apart(leader);
                return self.pass(head, body, says);
            }
            let entry = self.cache.shelf.entry(stored, Content::Whole(Bytes::new()));
            let is_kept = self.keep(&entry, leader, times.asked);
            if is_kept {
                count(&self.cache.counters.stored);
            }
            return self.pass(head, body, if is_kept { says.stored() } else { says });
        }
        let cache = self.cache.clone();
        let mut says = says.ttl(stored.ttl(times.received));
        let limit = announced.map_or(Limit::AtMost(self.cache.max_body), Limit::Exactly);
        let (growing, reader) = Growing::new(Box::pin(ResponseBody::passing(body)), limit);
        match announced {
            Some(length) => {
                let entry = self.cache.shelf.entry(stored, Content::Growing(growing.clone(), length));
                let (cache, key, this) = (self.cache.clone(), self.key.clone(), Arc::downgrade(&growing));
                growing.when_done(Box::new(move |done| {
                    let bytes = if let Done::Whole(bytes) = done { Some(bytes) } else { None };
                    let is_whole = bytes.is_some();
                    let was_there = cache.shelf.complete(&key, &this, bytes);
                    if !is_whole {
                        count(&cache.counters.cut);
                    } else if was_there {
                        count(&cache.counters.stored);
                    }
                }));
                if self.keep(&entry, leader, times.asked) {
                    says = says.stored();
                }
            }
            None => {
                // As far as it is known now.
                says = says.stored();
                let Self { key, mut request, why, .. } = self;
                // What an application put there is not for a cache to hold.
                request.extensions.clear();
                let keeper = Exchange::new(cache.clone(), (), key, request, None, why);
                growing.when_done(Box::new(move |done| match done {
                    Done::Whole(bytes) => {
                        let entry = keeper.cache.shelf.entry(stored, Content::Whole(bytes));
                        if keeper.keep(&entry, leader, times.asked) {
                            count(&keeper.cache.counters.stored);
                        }
                    }
                    Done::TooLong => {
                        count(&keeper.cache.counters.cut);
                        keeper.apart(leader);
                    }
                    // The next one leads.
                    Done::Cut => count(&keeper.cache.counters.cut),
                }));
            }
        }
        let mut response = Response::from_parts(head, ResponseBody::growing(reader, announced));
        cache.say(&says, &mut response);
        response
    }

    /// For those who wait and those who come, unless the address was changed meanwhile.
    /// Says whether it is stored.
    fn keep(&self, entry: &Arc<Entry>, leader: Option<Lead>, asked: Asked) -> bool {
        let cache = &self.cache;
        let mut is_kept = false;
        let mut keep = || is_kept = cache.shelf.keep(&cache.rules, &self.key, &self.request, entry, asked);
        match leader {
            Some(leader) => {
                leader.land_with(Brought::Entry(entry.clone()), keep);
            }
            None => keep(),
        }
        cache.share_again(&self.key);
        is_kept
    }

    /// Those who wait ask for themselves, and nobody waits for the next.
    fn apart(&self, leader: Option<Lead>) {
        if let Some(leader) = leader {
            self.cache.set_apart(&self.key);
            leader.land(Brought::Apart);
        }
    }

    fn pass<B>(&self, head: response::Parts, body: B, says: CacheStatus) -> Response<ResponseBody<B>> {
        let mut response = Response::from_parts(head, ResponseBody::passing(body));
        self.cache.say(&says, &mut response);
        response
    }
}
