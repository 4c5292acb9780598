//! A request that nothing stored can answer: together with others who ask for the same, or alone.

use std::{future::poll_fn, sync::Arc};

use buttress_cache::{Joined, Landed, Leader};
use buttress_core::{BoxError, Decision, Reason, Rejectable};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header, request};
use http_body::Body;
use tokio::time::Instant;
use tower_service::Service;

use crate::{
    ResponseBody,
    cache::Inner,
    flight::{Brought, FlightKey, Waited, wait},
    key::Key,
    rules::{CacheStatus, Conditions, Forward, Moment, Rules, Verdict},
    settle::Times,
    shelf::Entry,
    stats::count,
};

pub(crate) type Lead = Leader<FlightKey, Brought>;

pub(crate) struct Exchange<S> {
    pub(crate) cache: Arc<Inner>,
    pub(crate) service: S,
    pub(crate) key: Key,
    pub(crate) request: request::Parts,
    /// The stored response that is not good enough as it is.
    pub(crate) selected: Option<Arc<Entry>>,
    /// Why the request goes on.
    pub(crate) why: Forward,
    /// The cache's own, in the background: nobody waits for it.
    pub(crate) is_refresh: bool,
}

impl<S> Exchange<S> {
    pub(crate) const fn new(
        cache: Arc<Inner>,
        service: S,
        key: Key,
        request: request::Parts,
        selected: Option<Arc<Entry>>,
        why: Forward,
    ) -> Self {
        Self { cache, service, key, request, selected, why, is_refresh: false }
    }

    /// Together with others, where that may be.
    pub(crate) async fn run<ReqB, B>(mut self, body: ReqB) -> Result<Response<ResponseBody<B>>, S::Error>
    where
        S: Service<Request<ReqB>, Response = Response<B>>,
        S::Error: Rejectable,
        ReqB: Default,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if !self.collapses() {
            return self.ask(body, None).await;
        }
        let flight = self.cache.flight_key(&self.key, &self.request);
        let leader = loop {
            let follower = match self.cache.flights.join(&flight) {
                Joined::Lead(leader) => break leader,
                Joined::Follow(follower) => follower,
            };
            match wait(follower).await {
                Waited::Landed(Landed::Lead(leader)) => break leader,
                // Its caller left with the head already.
                Waited::Landed(Landed::With(Brought::Entry(entry))) if !entry.is_there() => {}
                Waited::Landed(Landed::With(brought)) => {
                    if let Some(answer) = self.take(brought) {
                        return answer;
                    }
                    // Waiting was for nothing, and would be for the next.
                    self.cache.set_apart(&self.key);
                    return self.ask(body, None).await;
                }
                Waited::TooLate => {
                    return self.in_place_of_an_error(None).ok_or_else(|| self.cache.too_late());
                }
                Waited::Impatient => {
                    // Nobody else shall wait for this one.
                    self.cache.flights.detach(&flight);
                    let leader = self.cache.flights.try_lead(&flight);
                    return self.ask(body, leader).await;
                }
            }
        };
        // Somebody may have brought it between the look into the memory and the turn to lead.
        let variants = self.cache.shelf.variants(&self.key);
        if let Some(entry) = variants.and_then(|variants| self.cache.select(&variants, &self.request)) {
            let is_new = self.selected.as_ref().is_none_or(|selected| selected.id != entry.id);
            if is_new && let Some(response) = self.collapsed(&entry) {
                leader.land(Brought::Entry(entry));
                return Ok(response);
            }
            self.selected = Some(entry);
        }
        self.ask(body, Some(leader)).await
    }

    /// A request whose answer may do for others. One for a part is not; one with a condition is where the condition is the
    /// cache's, too; one that wants the service's own word has to have that.
    fn collapses(&self) -> bool {
        self.request.method == Method::GET
            && self.why != Forward::Request
            && !self.request.headers.contains_key(header::RANGE)
            && !Rules::forbids_storing(&self.request)
            && (self.selected.is_some() || !self.has_condition())
            && !self.cache.is_apart(&self.key, Instant::now())
    }

    fn has_condition(&self) -> bool {
        let headers = &self.request.headers;
        headers.contains_key(header::IF_NONE_MATCH) || headers.contains_key(header::IF_MODIFIED_SINCE)
    }

    /// What another brought, if it is an answer to this request.
    fn take<B, E: Rejectable>(&self, brought: Brought) -> Option<Result<Response<ResponseBody<B>>, E>> {
        match brought {
            Brought::Entry(entry) => self.collapsed(&entry).map(Ok),
            Brought::Failed(rejected) => match self.in_place_of_an_error(None) {
                Some(response) => Some(Ok(response)),
                None => Some(Err(rejected.into())),
            },
            Brought::Failing => self.in_place_of_an_error(None).map(Ok),
            Brought::Apart => None,
        }
    }

    fn collapsed<B>(&self, entry: &Arc<Entry>) -> Option<Response<ResponseBody<B>>> {
        let now = Moment::now();
        if !self.cache.rules.matches(&entry.stored, &self.request)
            || matches!(self.cache.rules.judge(&entry.stored, &self.request, now), Verdict::Validate(_))
        {
            return None;
        }
        let status = CacheStatus::forward(self.why).collapsed().ttl(entry.stored.ttl(now));
        let response = self.cache.answer(entry, &self.request, now, &status)?;
        count(&self.cache.counters.collapsed);
        Decision::note(self.cache.origin, "joined", || {
            "another request's answer serves this one, too".into()
        });
        Some(response)
    }

    /// The stored response, if it may stand in for an answer that is an error (RFC 5861, section 4).
    pub(crate) fn in_place_of_an_error<B>(
        &self,
        answered: Option<StatusCode>,
    ) -> Option<Response<ResponseBody<B>>> {
        let now = Moment::now();
        let entry = self.selected.as_ref().filter(|_| !self.is_refresh)?;
        if !self.cache.rules.stale_if_error(&entry.stored, &self.request, now) {
            return None;
        }
        let mut status = CacheStatus::forward(self.why).detail("stale-if-error").ttl(entry.stored.ttl(now));
        if let Some(answered) = answered {
            status = status.forward_status(answered);
        }
        let response = self.cache.answer(entry, &self.request, now, &status)?;
        count(&self.cache.counters.stale);
        self.cache.note_stale(entry, now, "the service failed");
        Some(response)
    }

    /// Asks the service, and stores what it answers where that may be.
    pub(crate) async fn ask<ReqB, B>(
        mut self,
        body: ReqB,
        mut leader: Option<Lead>,
    ) -> Result<Response<ResponseBody<B>>, S::Error>
    where
        S: Service<Request<ReqB>, Response = Response<B>>,
        S::Error: Rejectable,
        ReqB: Default,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let asked = self.cache.shelf.now(&self.key);
        let mut conditions = self.conditions();
        let mut body = Some(body);
        loop {
            let mut parts = self.request.clone();
            conditions.iter().for_each(|conditions| conditions.add_to(&mut parts.headers));
            let request = Request::from_parts(parts, body.take().unwrap_or_default());
            let sent = Moment::now();
            if let Err(error) = poll_fn(|cx| self.service.poll_ready(cx)).await {
                return self.failed(error, leader, false);
            }
            let response = match self.service.call(request).await {
                Ok(response) => response,
                Err(error) => return self.failed(error, leader, true),
            };
            let times = Times { asked, sent, received: Moment::now() };
            if response.status() == StatusCode::NOT_MODIFIED && conditions.is_some() {
                let (mut head, rest) = response.into_parts();
                let only =
                    conditions.as_ref().and_then(|sent| sent.only_tag(&self.request.headers, &head.headers));
                only.into_iter().for_each(|tag| _ = head.headers.insert(header::ETAG, tag));
                if let Some(response) = self.still_right(&head, &mut leader, times) {
                    return Ok(response);
                }
                if Conditions::is_for_the_client(&self.request.headers, &head.headers) {
                    return Ok(self.answered(Response::from_parts(head, rest), leader, times));
                }
                // It is about none of those that are stored: once more, with what conditions the client has.
                conditions = None;
                continue;
            }
            return Ok(self.answered(response, leader, times));
        }
    }

    /// Those of the stored responses that are for such a request. Not those of others: a server whose tags are not as
    /// unique as they should be would have us answer with another user's response, or in an encoding that is not wanted.
    fn conditions(&self) -> Option<Conditions> {
        let variants = self.cache.shelf.variants(&self.key)?;
        let mine =
            |entry: &&Arc<Entry>| entry.is_there() && self.cache.rules.matches(&entry.stored, &self.request);
        let variants = variants.iter().filter(mine).map(|entry| &entry.stored);
        let selected = self.selected.as_ref().map(|entry| &entry.stored);
        Some(Conditions::of(selected, variants)).filter(|conditions| !conditions.is_empty())
    }

    fn failed<B, E: Rejectable>(
        self,
        error: E,
        leader: Option<Lead>,
        sent: bool,
    ) -> Result<Response<ResponseBody<B>>, E> {
        let rejected = error.rejected().copied();
        // His own deadline and rate are not those of all who wait: then the next one leads.
        let is_his = |reason| matches!(reason, Reason::DeadlineExceeded | Reason::RateLimited);
        if let Some(leader) = leader
            && !rejected.is_some_and(|rejected| is_his(rejected.reason()))
        {
            let failed = || {
                let failed = self.cache.origin.reject(Reason::LoadFailed);
                if sent { failed.after_sending() } else { failed }
            };
            leader.land(Brought::Failed(rejected.unwrap_or_else(failed)));
        }
        self.in_place_of_an_error(None).ok_or(error)
    }
}
