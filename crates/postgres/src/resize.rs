use crate::{InvalidConfig, Postgres, pool_knobs::check_size};

impl Postgres {
    /// Sets the pool's size and its overflow, from now on: see
    /// [`with_pool_size`](crate::PostgresConfig::with_pool_size) and
    /// [`with_max_overflow`](crate::PostgresConfig::with_max_overflow).
    ///
    /// A larger pool lets those in who wait. In a smaller one, idle connections beyond the size are closed at once, those in
    /// use when they are given back; nothing is cut off, and nobody gets another one until there are fewer than the size and
    /// the overflow. A pool that is closed stays so.
    ///
    /// # Errors
    /// If the pool would have no connections, or more than any server can have. Then it stays as it is.
    pub fn resize(&self, pool_size: usize, max_overflow: usize) -> Result<(), InvalidConfig> {
        check_size(pool_size, max_overflow)?;
        let pool = &self.shared().pool;
        let overflow = &pool.manager().overflow;
        overflow.set(pool_size, max_overflow, |most| {
            if pool.status().max_size < most {
                pool.resize(most);
            }
        });
        overflow.trim(pool);
        Ok(())
    }
}
