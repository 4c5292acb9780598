use buttress_core::{Outcome, Reason, Rejectable, Rejected};

use crate::member::Member;

/// A layer inside of one endpoint has refused the call, and there are others that have not just done so, too: an error that
/// says so, for a retry around. Where all have refused, a retry would only make the refusal late.
#[inline]
pub(crate) fn elsewhere<K, S, Res, Err>(result: Result<Res, Err>, member: &Member<K, S>) -> Result<Res, Err>
where
    Err: Rejectable,
{
    result.map_err(|error| match error.rejected() {
        Some(rejected) if is_its_own(rejected) && has_others(member) => rejected.by_one_of_several().into(),
        _ => error,
    })
}

/// Of a deadline nothing is left elsewhere either.
fn is_its_own(rejected: &Rejected) -> bool {
    !rejected.sent()
        && rejected.outcome() == Outcome::Ignored
        && rejected.reason() != Reason::DeadlineExceeded
}

#[cold]
fn has_others<K, S>(member: &Member<K, S>) -> bool {
    member.pool.upgrade().is_some_and(|pool| {
        let now = pool.now();
        let is_other = |other: &Member<K, S>| !std::ptr::eq(other, member) && !other.state.is_avoided(now);
        let view = pool.view();
        view.candidates.iter().chain(&view.far).any(|other| is_other(other))
    })
}
