use std::time::Duration;

use deadpool::managed::{Pool, Timeouts};
use tokio::runtime::Handle;

use crate::{
    connector::Connector,
    turn::{Taken, Turn},
};

/// Makes a connection in the background, one at a time, where one was lost or its caller left before it was made.
///
/// It holds one place in the pool, for at most a second, and none in a pool of one. Where there are as many connections
/// as the pool's size it makes none: the overflow is not for stock.
///
/// Otherwise callers whose deadlines are shorter than it takes to connect and then to ask would never get anywhere,
/// however many they are, because each would throw away what it had begun.
#[derive(Debug, Default)]
pub(crate) struct Refill {
    running: Turn,
}

/// A connect that is lost in a black hole must not hold its place for the whole of the create timeout.
const LIMIT: Duration = Duration::from_secs(1);

impl Refill {
    /// Starts, unless it runs already. Outside of a runtime it does nothing.
    pub(crate) fn start(&self, pool: &Pool<Connector>) {
        let Ok(runtime) = Handle::try_current() else { return };
        let status = pool.status();
        let overflow = &pool.manager().overflow;
        if overflow.gate.most() < 2 || status.size >= overflow.pool_size() {
            return;
        }
        let Some(turn) = self.running.take() else { return };
        let filling = Filling { pool: pool.clone(), _turn: turn };
        runtime.spawn(async move {
            // Hardly in the way of a caller: it does not wait for a place, and gives the connection back at once.
            let configured = filling.pool.timeouts();
            let create = configured.create.map(|limit| limit.min(LIMIT));
            let timeouts = Timeouts { wait: Some(Duration::ZERO), create, ..configured };
            if let Some(_place) = filling.pool.manager().overflow.gate.take_now() {
                drop(filling.pool.timeout_get(&timeouts).await);
            }
            drop(filling);
        });
    }
}

/// It ends with its runtime, too, and whoever closes the pool from another one must hear of it.
struct Filling {
    pool: Pool<Connector>,
    // Given back behind all that is done at the end.
    _turn: Taken,
}

impl Drop for Filling {
    fn drop(&mut self) {
        let connector = self.pool.manager();
        connector.overflow.trim(&self.pool);
        connector.departures.tell();
    }
}
