use buttress_core::ReplayRequest;
use buttress_http::{Body, Idempotent};
use buttress_postgres::Query;
use buttress_redis::Command;
use http::Request;

use crate::config::Requests;

/// Which calls are sent again.
///
/// All are copied: what must not be done twice may turn out not to have been sent, and then it is repeated too.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Repeat(pub(crate) Requests);

impl Repeat {
    fn all(self) -> bool {
        self.0 == Requests::All
    }
}

impl ReplayRequest<Query> for Repeat {
    fn replay(&self, query: &Query) -> Option<Query> {
        Some(query.clone())
    }

    fn can_replay(&self, kept: &Query) -> bool {
        self.all() || kept.is_repeatable()
    }

    fn can_replay_unsent(&self, _: &Query) -> bool {
        true
    }
}

impl ReplayRequest<Command> for Repeat {
    fn replay(&self, command: &Command) -> Option<Command> {
        Some(command.clone())
    }

    fn can_replay(&self, kept: &Command) -> bool {
        self.all() || kept.is_repeatable()
    }

    fn can_replay_unsent(&self, _: &Command) -> bool {
        true
    }
}

impl ReplayRequest<Request<Body>> for Repeat {
    fn replay(&self, request: &Request<Body>) -> Option<Request<Body>> {
        Idempotent.replay(request)
    }

    fn can_replay(&self, kept: &Request<Body>) -> bool {
        if self.all() { Idempotent.can_replay_unsent(kept) } else { Idempotent.can_replay(kept) }
    }

    fn can_replay_unsent(&self, kept: &Request<Body>) -> bool {
        Idempotent.can_replay_unsent(kept)
    }
}
