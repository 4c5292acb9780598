//! What becomes of the service's answer.

use std::sync::{Arc, Weak};

use buttress_core::BoxError;
use bytes::Bytes;
use http::{Method, Response, StatusCode, header, response};
use http_body::Body;

use crate::{
    ResponseBody,
    changes::Asked,
    exchange::{Exchange, Lead},
    flight::Brought,
    growing::{Done, Growing, Limit},
    rules::{CacheStatus, Freshened, HeadUpdate, Kind, Moment, NotStored, Rules, Stored},
    shelf::{Content, Entry},
    stats::count,
};

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
                    if !self.is_for_the_client_alone() {
                        gone.push(entry.id);
                    }
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
        let mut response = cache.answer(
            &mine,
            &self.request,
            times.received,
            &status.ttl(mine.stored.ttl(times.received)),
        )?;
        count(&cache.counters.revalidated);
        if cache.rules.kind() == Kind::Shared {
            // It is not stored, and he gets it.
            for cookie in head.headers.get_all(header::SET_COOKIE) {
                response.headers_mut().append(header::SET_COOKIE, cookie.clone());
            }
        }
        let put = || {
            cache.shelf.replace(&self.key, &kept, times.asked);
        };
        match leader.take() {
            Some(leader) if kept.iter().any(|(_, entry)| entry.id == mine.id) => {
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
        mut leader: Option<Lead>,
        times: Times,
    ) -> Response<ResponseBody<B>>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let status = response.status();
        let says = CacheStatus::forward(self.why).forward_status(status);
        if Rules::is_failure(status) {
            leader.take().into_iter().for_each(|leader| leader.land(Brought::Failing));
            if let Some(stale) = self.in_place_of_an_error(Some(status)) {
                return stale;
            }
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
        } else if !matches!(why, NotStored::RequestNoStore | NotStored::Authorization) {
            self.let_go(head);
        }
    }

    /// There is another response now than the one that is stored, and it will not be.
    fn let_go(&self, head: &response::Parts) {
        let is_of_the_resource =
            head.status.is_success() || matches!(head.status.as_u16(), 300..=303 | 307 | 308 | 404 | 410);
        if is_of_the_resource {
            self.let_go_of_selected();
        }
    }

    fn let_go_of_selected(&self) {
        if let Some(selected) = &self.selected
            && !self.is_for_the_client_alone()
        {
            self.cache.shelf.let_go(&self.key, |old| old.id == selected.id);
        }
    }

    /// That an answer is not to be stored may be because of this client, and then says nothing of what others have.
    fn is_for_the_client_alone(&self) -> bool {
        Rules::forbids_storing(&self.request)
            || (self.cache.rules.kind() == Kind::Shared
                && self.request.headers.contains_key(header::AUTHORIZATION))
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
        let is_empty = body.is_end_stream();
        let has_none = matches!(head.status.as_u16(), 204 | 205);
        let contradicts = if is_empty { announced.is_some_and(|length| length > 0) } else { has_none };
        let wanted = announced.unwrap_or(0);
        let taken = if contradicts {
            Err("another-length")
        } else if wanted > self.cache.max_body {
            Err("too-large")
        } else {
            self.cache.budget.take(wanted).ok_or("no-room")
        };
        let taken = match taken {
            Ok(taken) => taken,
            Err(why) => {
                self.let_go(&head);
                self.apart(leader);
                return self.pass(head, body, says.detail(why));
            }
        };
        if is_empty {
            // Such as `204`.
            let entry = self.cache.shelf.entry(stored, Content::Whole(Bytes::new()));
            let is_kept = self.keep(&entry, leader, times.asked).is_some();
            if is_kept {
                count(&self.cache.counters.stored);
            }
            return self.pass(head, body, if is_kept { says.stored() } else { says });
        }
        let mut says = says.ttl(stored.ttl(times.received));
        let limit = announced.map_or(Limit::AtMost(self.cache.max_body), Limit::Exactly);
        let (growing, reader) = Growing::new(Box::pin(ResponseBody::passing(body)), limit, taken);
        match announced {
            Some(length) => {
                let entry = self.cache.shelf.entry(stored, Content::Growing(growing.clone(), length));
                let kept = self.keep(&entry, leader, times.asked);
                if kept.is_some() {
                    says = says.stored();
                }
                let this = Arc::downgrade(&growing);
                let keeper = self.keeper();
                growing.when_done(Box::new(move |done| keeper.complete(&this, done, kept, times.asked)));
            }
            None => {
                // As far as it is known now.
                says = says.stored();
                let keeper = self.keeper();
                growing.when_done(Box::new(move |done| match done {
                    Done::Whole(bytes) => {
                        let entry = keeper.cache.shelf.entry(stored, Content::Whole(bytes));
                        if keeper.keep(&entry, leader, times.asked).is_some() {
                            count(&keeper.cache.counters.stored);
                        }
                    }
                    Done::TooLong => {
                        count(&keeper.cache.counters.cut);
                        keeper.let_go_of_selected();
                        keeper.apart(leader);
                    }
                    // The next one leads.
                    Done::Cut => count(&keeper.cache.counters.cut),
                }));
            }
        }
        let mut response = Response::from_parts(head, ResponseBody::growing(reader, announced));
        self.cache.say(&says, &mut response);
        response
    }

    /// For those who wait and those who come, unless the address was changed meanwhile. Where it is stored, returns what it took
    /// the place of.
    fn keep(&self, entry: &Arc<Entry>, leader: Option<Lead>, asked: Asked) -> Option<Vec<Arc<Entry>>> {
        let cache = &self.cache;
        let mut is_kept = None;
        let mut keep = || is_kept = cache.shelf.keep(&cache.rules, &self.key, &self.request, entry, asked);
        match leader {
            Some(leader) => {
                leader.land_with(Brought::Entry(entry.clone()), keep);
            }
            None => keep(),
        }
        is_kept
    }

    /// Of a body whose length was announced.
    fn complete(&self, body: &Weak<Growing>, done: Done, kept: Option<Vec<Arc<Entry>>>, asked: Asked) {
        let (cache, key) = (&*self.cache, &self.key);
        let bytes = if let Done::Whole(bytes) = done { Some(bytes) } else { None };
        let is_whole = bytes.is_some();
        let was_there = cache.shelf.complete(key, body, bytes);
        if !is_whole {
            count(&cache.counters.cut);
            if was_there && let Some(replaced) = kept {
                cache.shelf.put_back(&cache.rules, key, &self.request, &replaced, asked);
            }
        } else if was_there {
            count(&cache.counters.stored);
        }
    }

    /// What is to be known when the body has ended.
    fn keeper(&self) -> Exchange<()> {
        let mut request = self.request.clone();
        // What an application put there is not for a cache to hold.
        request.extensions.clear();
        let (cache, key, selected) = (self.cache.clone(), self.key.clone(), self.selected.clone());
        Exchange::new(cache, (), key, request, selected, self.why)
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
