/// Says whether a request can be sent again, and makes the copy.
///
/// Any function `Fn(&Req) -> Option<Req>` is one. Repeat only what is idempotent: what can be carried out twice without
/// harm.
///
/// ```
/// use buttress_retry::RetryLayer;
///
/// # #[derive(Clone)]
/// enum Command { Get(String), Increment(String) }
///
/// let only_reads = |command: &Command| matches!(command, Command::Get(_)).then(|| command.clone());
/// let layer = RetryLayer::new("counters").requests(only_reads);
/// # let _: fn(&_) -> _ = |layer: &RetryLayer| layer.clone();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot copy a `{Req}` for another attempt",
    note = "`CloneRequest`, the default, asks for `{Req}: Clone`; a closure takes `&{Req}`, spelled out"
)]
pub trait ReplayRequest<Req> {
    /// A copy for a later attempt; `None` where there can be none: then the attempt that is about to be made is the
    /// last.
    ///
    /// It is asked before each attempt but the last one allowed.
    fn replay(&self, request: &Req) -> Option<Req>;

    /// Whether a copy that was made before can really be sent, asked when a retry is wanted. A copy that shares a body
    /// with the first request may find out only by then that the body was too long to be kept. `true` by default.
    fn can_replay(&self, kept: &Req) -> bool {
        let _ = kept;
        true
    }
}

/// The default: every request can be repeated, by its `Clone`.
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
