//! What the conventions of databases have in common.

use std::borrow::Cow;

use crate::Label;

/// Stands for what is not told from others.
pub(super) const OTHER: &str = "_OTHER";

/// Which database.
#[derive(Debug, Clone)]
pub(super) struct Database {
    system: &'static str,
    namespace: Cow<'static, str>,
    address: Option<Cow<'static, str>>,
    port: Option<u16>,
}

impl Database {
    pub(super) const METRIC: &str = "db.client.operation.duration";

    pub(super) fn new(system: &'static str, namespace: Cow<'static, str>) -> Self {
        Self { system, namespace, address: None, port: None }
    }

    pub(super) fn server(self, address: Cow<'static, str>, port: Option<u16>) -> Self {
        Self { address: Some(address), port, ..self }
    }

    pub(super) fn common(&self) -> Vec<(&'static str, Label)> {
        let mut common = vec![("db.system.name", Label::Text(self.system.into()))];
        common.push(("db.namespace", Label::Text(self.namespace.clone())));
        if let Some(address) = &self.address {
            common.push(("server.address", Label::Text(address.clone())));
        }
        if let Some(port) = self.port {
            common.push(("server.port", Label::Number(port.into())));
        }
        common
    }
}
