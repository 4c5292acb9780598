/// Where everything is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    pub(crate) database_url: Option<String>,
    pub(crate) redis_url: Option<String>,
    pub(crate) upstream_url: Option<String>,
    /// Whether throw-away servers may take the place of what is not configured.
    pub(crate) throw_away: bool,
}
