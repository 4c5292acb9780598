/// Says whether a request can be sent again, and makes the copy.
///
/// A retry and a hedge ask it. Any function `Fn(&Req) -> Option<Req>` is one. Send again only what is idempotent: what can
/// be carried out twice without harm.
///
/// ```
/// use buttress_core::ReplayRequest;
///
/// #[derive(Clone)]
/// enum Command { Get(String), Increment(String) }
///
/// let only_reads = |command: &Command| matches!(command, Command::Get(_)).then(|| command.clone());
/// assert!(only_reads.replay(&Command::Get("visits".into())).is_some());
/// assert!(only_reads.replay(&Command::Increment("visits".into())).is_none());
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot copy a `{Req}` for another attempt",
    note = "`CloneRequest` asks for `{Req}: Clone`; a closure takes `&{Req}`, spelled out"
)]
pub trait ReplayRequest<Req> {
    /// A copy for a later attempt; `None` where there can be none: then the attempt that is about to be made is the
    /// last.
    ///
    /// It is asked before each attempt but the last one allowed.
    fn replay(&self, request: &Req) -> Option<Req>;

    /// Whether a copy that was made before can really be sent, asked when another attempt is wanted. A copy that shares a body
    /// with the first request may find out only by then that the body was too long to be kept. `true` by default.
    fn can_replay(&self, kept: &Req) -> bool {
        let _ = kept;
        true
    }

    /// The same where the attempt before was not sent, as its error says ([`Rejectable::sent`](crate::Rejectable::sent)):
    /// then nothing can happen twice. [`can_replay`](Self::can_replay) by default. A rule that copies also what must not
    /// be carried out twice tells the two apart.
    fn can_replay_unsent(&self, kept: &Req) -> bool {
        self.can_replay(kept)
    }

    /// The same where the attempts before go on: a hedge asks it, before the first attempt whether the call is to be
    /// hedged at all, and again before each hedge. [`can_replay`](Self::can_replay) by default.
    fn can_race(&self, kept: &Req) -> bool {
        self.can_replay(kept)
    }
}

/// Every request can be sent again, by its `Clone`.
#[derive(Debug, Clone, Copy, Default)]
pub struct CloneRequest;

impl<Req: Clone> ReplayRequest<Req> for CloneRequest {
    fn replay(&self, request: &Req) -> Option<Req> {
        Some(request.clone())
    }
}

impl<F, Req> ReplayRequest<Req> for F
where
    F: Fn(&Req) -> Option<Req>,
{
    fn replay(&self, request: &Req) -> Option<Req> {
        self(request)
    }
}
