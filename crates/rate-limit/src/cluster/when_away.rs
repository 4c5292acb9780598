/// What becomes of calls while the store is away: it fails, talks nonsense, or does not answer in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum WhenAway {
    /// Each node holds its part of the limit by itself: the limit by as many nodes as the store last told of, but at least
    /// a unit. A node that the store never answered takes itself for the only one.
    #[default]
    LocalShare,
    /// They are admitted.
    FailOpen,
    /// They are refused with [`Overloaded`](buttress_core::Reason::Overloaded): nobody knows whether the limit is reached.
    FailClosed,
}
