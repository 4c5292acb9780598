use std::time::Duration;

use super::{InvalidName, Policy, Remaining};

/// Tells whose limits a request counts against: those of one key, or of everybody.
pub trait Subjects<Req> {
    /// What is kept of the request until its response is there: `()` where there are no keys, a key's hash where there are.
    type Subject;

    /// Whose it is. It takes nothing.
    fn subject(&self, request: &Req) -> Self::Subject;
}

/// A limiter whose quotas can be looked at, for [`AdvertiseLayer`](super::AdvertiseLayer).
pub trait Quotas {
    /// Whose quotas: that of [`Subjects`].
    type Subject;

    /// Its limits as a client is told of them, always the same. It is asked once.
    ///
    /// # Errors
    /// Where a header field cannot carry a name.
    fn policies(&self) -> Result<Vec<Policy>, InvalidName>;

    /// Tells what is left now, of each policy in the order of [`policies`](Self::policies). It takes nothing.
    fn quotas(&self, subject: &Self::Subject, tell: &mut dyn FnMut(Remaining));
}

/// A limiter that can be told to hold back, for [`ObeyLayer`](super::ObeyLayer).
pub trait Obeys {
    /// Who holds back: that of [`Subjects`].
    type Subject;

    /// From now on lets at most so many units through within that time, or none where it is zero; and never more than it
    /// would have without. Told several times, all of it holds, each for its own time.
    fn restrict(&self, subject: &Self::Subject, units: u32, time: Duration);
}

impl<Req, A: Subjects<Req>, B: Subjects<Req>> Subjects<Req> for (A, B) {
    type Subject = (A::Subject, B::Subject);

    fn subject(&self, request: &Req) -> Self::Subject {
        (self.0.subject(request), self.1.subject(request))
    }
}

/// Those of the first, then those of the second. More than two are pairs of pairs.
impl<A: Quotas, B: Quotas> Quotas for (A, B) {
    type Subject = (A::Subject, B::Subject);

    fn policies(&self) -> Result<Vec<Policy>, InvalidName> {
        let mut policies = self.0.policies()?;
        policies.extend(self.1.policies()?);
        Ok(policies)
    }

    fn quotas(&self, subject: &Self::Subject, tell: &mut dyn FnMut(Remaining)) {
        self.0.quotas(&subject.0, tell);
        self.1.quotas(&subject.1, tell);
    }
}
