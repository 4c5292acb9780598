use std::net::SocketAddr;

/// Where everything is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    pub(crate) database_url: Option<String>,
    pub(crate) redis_url: Option<String>,
    pub(crate) upstream_url: Option<String>,
    /// Where the live page is; none where there is to be none.
    pub(crate) dashboard: Option<SocketAddr>,
    /// Whether throw-away servers may take the place of what is not configured.
    pub(crate) throw_away: bool,
}
