use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::formation::{self, members, tell, until};
use super::process::Process;
use super::wire;
use crate::background;

const MASTERS: usize = 3;

/// A Redis cluster of a test's own: three masters on ports of 127.0.0.1, each with a replica that takes its place about
/// two seconds after it is gone.
///
/// Everything is in memory. Dropped, all is killed and the folders removed; it cannot outlive the process. It starts in
/// about a second. A slot whose master is gone does not keep the others from being served.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Arc<Process>>,
}

impl RedisCluster {
    /// Starts a cluster and waits until every node says that all is well, and every replica has its master's data.
    ///
    /// # Panics
    /// When it cannot be started; see [`try_start`](Self::try_start).
    pub async fn start() -> Self {
        Self::try_start().await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts a cluster and waits until every node says that all is well, and every replica has its master's data.
    ///
    /// # Errors
    /// `NotFound` when `redis-server` or `setpriv` is missing: the message names the command to run. An error when the
    /// server is older than Redis 7, or when the nodes do not come to an agreement within a minute.
    pub async fn try_start() -> io::Result<Self> {
        background::run(async {
            let nodes = (0..2 * MASTERS)
                .map(|_| Process::clustered().map(Arc::new))
                .collect::<io::Result<Vec<_>>>()?;
            for node in &nodes {
                node.run().await?;
            }
            formation::form(&nodes, MASTERS).await?;
            Ok(Self { nodes })
        })
        .await
    }

    /// `redis-cluster://127.0.0.1:PORT?node=...`, with all nodes.
    pub fn url(&self) -> String {
        let addrs: Vec<String> = self.nodes.iter().map(|node| node.addr().to_string()).collect();
        format!("redis-cluster://{}", addrs.join("&node=").replacen('&', "?", 1))
    }

    /// The addresses of all nodes.
    pub fn addrs(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.addr()).collect()
    }

    /// The process ids of the nodes that run.
    pub fn pids(&self) -> Vec<u32> {
        self.nodes.iter().filter_map(|node| node.pid()).collect()
    }

    /// The living master that a key belongs to. After one was killed or paused it waits until another has taken its
    /// place and all nodes that answer know it.
    ///
    /// # Panics
    /// When there is none within a minute.
    pub async fn master_of(&self, key: &str) -> SocketAddr {
        let (nodes, key) = (self.nodes.clone(), key.to_owned());
        let master = background::run(async move { master_of(&nodes, &key).await });
        master.await.unwrap_or_else(|error| panic!("{error}")).addr()
    }

    /// Kills the master of a key without a goodbye, and returns where it was.
    ///
    /// # Panics
    /// When there is none within a minute.
    pub async fn kill_master_of(&self, key: &str) -> SocketAddr {
        let (nodes, key) = (self.nodes.clone(), key.to_owned());
        let killed = background::run(async move {
            let master = master_of(&nodes, &key).await?;
            master.end()?;
            Ok::<_, io::Error>(master.addr())
        });
        killed.await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Stops the master of a key where it stands (SIGSTOP), and returns where it is: its connections stay open, nothing
    /// is answered, and its replica takes its place.
    ///
    /// # Panics
    /// When there is none within a minute.
    pub async fn pause_master_of(&self, key: &str) -> SocketAddr {
        let (nodes, key) = (self.nodes.clone(), key.to_owned());
        let paused = background::run(async move {
            let master = master_of(&nodes, &key).await?;
            master.pause();
            Ok::<_, io::Error>(master.addr())
        });
        paused.await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Lets a paused node go on. When another has taken its place, it becomes a replica of that one.
    ///
    /// # Panics
    /// When no node has this address, or when it does not run.
    pub fn resume(&self, addr: SocketAddr) {
        self.node(addr).resume();
    }

    /// Has a replica take the place of a key's master, which lives on as its replica: no connection ends, nothing is
    /// lost, and clients are redirected. Returns where the new master is.
    ///
    /// # Panics
    /// When it has no replica, or when it does not happen within a minute.
    pub async fn switch_master_of(&self, key: &str) -> SocketAddr {
        let (nodes, key) = (self.nodes.clone(), key.to_owned());
        let switched = background::run(async move {
            let old = master_of(&nodes, &key).await?;
            let known = members(&old).await?;
            let id = known.iter().find(|member| member.has("myself")).map(|member| member.id.clone());
            let replica = known
                .iter()
                .find(|member| member.is_well() && member.replica_of.is_some() && member.replica_of == id)
                .and_then(|member| nodes.iter().find(|node| node.addr() == member.addr && node.answers()))
                .ok_or_else(|| io::Error::other(format!("{} has no replica", old.addr())))?;
            tell(replica, &["CLUSTER", "FAILOVER"]).await?;
            until("the replica is the master", || async {
                let master = master_of(&nodes, &key).await?;
                Ok((master.addr() == replica.addr()).then_some(master.addr()))
            })
            .await
        });
        switched.await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts a killed node again, on its port, empty: it becomes a replica of whoever took its place. Waits until all
    /// is well again.
    ///
    /// # Panics
    /// When no node has this address, or when it does not come up again within a minute.
    pub async fn restart(&self, addr: SocketAddr) {
        let (nodes, node) = (self.nodes.clone(), Arc::clone(self.node(addr)));
        let restarted = background::run(async move {
            node.end()?;
            node.run().await?;
            let answering = nodes.iter().filter(|node| node.answers()).count();
            formation::settled(&nodes, answering.saturating_sub(MASTERS)).await
        });
        restarted.await.unwrap_or_else(|error| panic!("{error}"));
    }

    fn node(&self, addr: SocketAddr) -> &Arc<Process> {
        self.nodes.iter().find(|node| node.addr() == addr).expect("a node of the cluster")
    }
}

async fn master_of(nodes: &[Arc<Process>], key: &str) -> io::Result<Arc<Process>> {
    until("all nodes agree about the key's master", || async {
        let answering = || nodes.iter().filter(|node| node.answers());
        let asked = answering().next().ok_or_else(|| io::Error::other("no node answers"))?;
        let slot = wire::ask(asked.socket(), &["CLUSTER", "KEYSLOT", key]).await?;
        let slot = slot.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        let mut master = None;
        for node in answering() {
            let known = members(node).await?;
            let Some(found) = known.into_iter().find(|member| member.is_master_of(slot) && member.is_well())
            else {
                return Ok(None);
            };
            if master.is_some_and(|addr| addr != found.addr) {
                return Ok(None);
            }
            master = Some(found.addr);
        }
        Ok(answering().find(|node| master == Some(node.addr())).cloned())
    })
    .await
}
