use std::{
    future::{Future, poll_fn},
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig},
    net::{DnsError as Answered, NetError, runtime::TokioRuntimeProvider},
    proto::rr::Name,
};
use tokio::time::timeout;

use super::error::{InvalidDns, Why};

/// For all attempts of one lookup together.
const LIMIT: Duration = Duration::from_secs(15);

/// For one attempt, at a server that was named.
const ATTEMPT: Duration = Duration::from_secs(2);

/// What came of a question for the addresses of one family.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Addresses, and the seconds for which they hold.
    Addresses(Vec<IpAddr>, u32),
    /// There are none, and the seconds for which that holds, where the servers said so.
    Nothing(Option<u32>),
    Failed(Why),
}

/// The two questions. Each has a resolver of its own: of a common one it could not be told whether a family has no
/// address or only got no answer.
#[derive(Clone)]
pub(crate) struct Lookups {
    host: Arc<str>,
    v4: TokioResolver,
    v6: TokioResolver,
}

impl Lookups {
    pub(crate) fn new(host: &str, server: Option<SocketAddr>) -> Result<Self, InvalidDns> {
        let invalid = |why: String| InvalidDns::Host { host: host.to_owned(), why };
        if host.parse::<IpAddr>().is_err() {
            let name = Name::from_utf8(host).map_err(|error| invalid(error.to_string()))?;
            if name.num_labels() == 0 {
                return Err(invalid("it is empty".to_owned()));
            }
        }
        let resolver = |strategy| resolver(server, strategy);
        Ok(Self {
            host: host.into(),
            v4: resolver(LookupIpStrategy::Ipv4Only)?,
            v6: resolver(LookupIpStrategy::Ipv6Only)?,
        })
    }

    /// Asks both questions at once.
    pub(crate) async fn ask(self) -> [Answer; 2] {
        let Self { host, v4, v6 } = self;
        let (mut v4, mut v6) =
            (pin!(ask(&v4, &host, IpAddr::is_ipv4)), pin!(ask(&v6, &host, IpAddr::is_ipv6)));
        let (mut first, mut second) = (None, None);
        poll_fn(|cx| {
            if first.is_none() {
                first = ready_now(v4.as_mut().poll(cx));
            }
            if second.is_none() {
                second = ready_now(v6.as_mut().poll(cx));
            }
            match (first.take(), second.take()) {
                (Some(first), Some(second)) => Poll::Ready([first, second]),
                (one, other) => {
                    (first, second) = (one, other);
                    Poll::Pending
                }
            }
        })
        .await
    }
}

fn ready_now<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

async fn ask(resolver: &TokioResolver, host: &str, of_family: fn(&IpAddr) -> bool) -> Answer {
    match timeout(LIMIT, resolver.lookup_ip(host)).await {
        Ok(Ok(found)) => {
            // Of an alias, too: the chain holds no longer than its shortest link.
            let ttl = found.as_lookup().answers().iter().map(|record| record.ttl).min();
            // A host that is an address is its own answer to both questions.
            let usable = |ip: &IpAddr| of_family(ip) && !ip.is_unspecified() && !ip.is_multicast();
            Answer::Addresses(found.iter().filter(usable).collect(), ttl.unwrap_or_default())
        }
        Ok(Err(NetError::Dns(Answered::NoRecordsFound(nothing)))) => Answer::Nothing(nothing.negative_ttl),
        Ok(Err(error)) => Answer::Failed(Why::Failed(error)),
        Err(_elapsed) => Answer::Failed(Why::TimedOut),
    }
}

fn resolver(server: Option<SocketAddr>, strategy: LookupIpStrategy) -> Result<TokioResolver, InvalidDns> {
    let system = |error: NetError| InvalidDns::System(error.to_string());
    let mut builder = match server {
        Some(server) => {
            let mut udp = ConnectionConfig::udp();
            let mut tcp = ConnectionConfig::tcp();
            (udp.port, tcp.port) = (server.port(), server.port());
            let server = NameServerConfig::new(server.ip(), true, vec![udp, tcp]);
            let config = ResolverConfig::from_name_servers(vec![server]);
            let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
            builder.options_mut().timeout = ATTEMPT;
            builder.options_mut().use_hosts_file = ResolveHosts::Never;
            builder
        }
        None => TokioResolver::builder_tokio().map_err(system)?,
    };
    let options = builder.options_mut();
    options.ip_strategy = strategy;
    // It is asked when the last answer is no longer valid, and never before.
    options.cache_size = 0;
    builder.build().map_err(system)
}
