//! Makes a cluster of servers that know nothing of each other, as `redis-cli --cluster create` does.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::process::Process;
use super::topology::{self, Member};
use super::wire;

pub(crate) const SLOTS: u16 = 16_384;
const LIMIT: Duration = Duration::from_secs(60);
const POLL_EVERY: Duration = Duration::from_millis(20);

/// Gives the slots to the first `masters` of `nodes`, and a replica to each in turn of the rest.
pub(crate) async fn form(nodes: &[Arc<Process>], masters: usize) -> io::Result<()> {
    for (index, node) in nodes.iter().enumerate() {
        // Of two masters with the same epoch one gives way, which would take a second. A node takes it only while it knows
        // no other.
        tell(node, &["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]).await?;
    }
    for (index, node) in nodes.iter().enumerate() {
        for other in &nodes[index + 1..] {
            let (port, bus) = (other.port().to_string(), other.bus_port().to_string());
            tell(node, &["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await?;
        }
    }
    for (index, node) in nodes[..masters].iter().enumerate() {
        let edge = |index: usize| usize::from(SLOTS) * index / masters;
        let (first, last) = (edge(index).to_string(), (edge(index + 1) - 1).to_string());
        tell(node, &["CLUSTER", "ADDSLOTSRANGE", &first, &last]).await?;
    }
    until("every node knows every other", || async {
        for node in nodes {
            let members = members(node).await?;
            if members.len() != nodes.len() || !members.iter().all(Member::is_well) {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
    .await?;
    for (index, node) in nodes[masters..].iter().enumerate() {
        let master = wire::ask(nodes[index % masters].socket(), &["CLUSTER", "MYID"]).await?;
        tell(node, &["CLUSTER", "REPLICATE", &master]).await?;
    }
    settled(nodes, nodes.len() - masters).await
}

/// Waits until all that answer agree that the cluster is well, and so many of them are replicas in step.
pub(crate) async fn settled(nodes: &[Arc<Process>], replicas: usize) -> io::Result<()> {
    until("the cluster is well", || async {
        let mut in_step = 0;
        for node in nodes.iter().filter(|node| node.answers()) {
            if !wire::ask(node.socket(), &["CLUSTER", "INFO"]).await?.contains("cluster_state:ok\r\n") {
                return Ok(None);
            }
            let known = members(node).await?;
            if known.iter().filter(|member| member.is_well() && member.replica_of.is_some()).count()
                < replicas
            {
                return Ok(None);
            }
            let state = wire::ask(node.socket(), &["INFO", "replication"]).await?;
            in_step += usize::from(state.contains("master_link_status:up\r\n"));
        }
        Ok((in_step >= replicas).then_some(()))
    })
    .await
}

pub(crate) async fn members(node: &Process) -> io::Result<Vec<Member>> {
    topology::read(&wire::ask(node.socket(), &["CLUSTER", "NODES"]).await?)
}

pub(crate) async fn tell(node: &Process, command: &[&str]) -> io::Result<()> {
    let answer = wire::ask(node.socket(), command).await?;
    if answer == "OK" {
        Ok(())
    } else {
        Err(io::Error::other(format!("{} answered {answer}", command.join(" "))))
    }
}

/// Asks until there is an answer.
pub(crate) async fn until<T, F>(what: &str, ask: impl Fn() -> F) -> io::Result<T>
where
    F: Future<Output = io::Result<Option<T>>>,
{
    let deadline = Instant::now() + LIMIT;
    loop {
        // A node that is changing its part may close a connection: it is asked again.
        let last = match ask().await {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => String::new(),
            Err(error) => format!(": {error}"),
        };
        if Instant::now() >= deadline {
            return Err(io::Error::other(format!("within {LIMIT:?} it was never so that {what}{last}")));
        }
        sleep(POLL_EVERY).await;
    }
}
