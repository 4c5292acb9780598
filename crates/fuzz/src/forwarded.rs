use std::net::{IpAddr, SocketAddr};

use buttress_rate_limit::http::{Client, ClientIp, Forwarding, Network, Proxies};
use http::{Extensions, Request};

use crate::{cost::bounded, head::Head};

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

/// `X-Forwarded-For` and `Forwarded`: the client is the peer or what a trusted proxy says, as a naive model has it, and whatever
/// a client writes itself stands to the left and changes nothing.
///
/// The input: the fields of a request, a line each.
///
/// # Panics
/// Where that does not hold.
pub fn forwarded(data: &[u8]) {
    let [asked] = Head::read(data);
    for (forwarding, field) in
        [(Forwarding::XForwardedFor, "x-forwarded-for"), (Forwarding::Forwarded, "forwarded")]
    {
        let of = |peer: IpAddr, fields: &http::HeaderMap| {
            let networks =
                ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse::<Network>().expect("a network"));
            let client =
                ClientIp::new(move |_: &Extensions| Some(peer)).behind(Proxies::new(forwarding, networks));
            let mut request = Request::new(());
            *request.headers_mut() = fields.clone();
            client.of(&request)
        };
        let client = bounded(data, 8_192, 16, || of(PEER, &asked.fields));
        let stranger: IpAddr = "192.0.2.9".parse().expect("an address");
        assert_eq!(of(stranger, &asked.fields), Client::Address(stranger), "a stranger says nothing");
        if forwarding == Forwarding::XForwardedFor
            && let Some(expected) = naive(&asked)
        {
            assert_eq!(client, Client::Address(first_of(expected)), "{asked:?}");
        }
        // What the nearest proxy adds is what counts.
        let mut fields = asked.fields.clone();
        let added = if forwarding == Forwarding::XForwardedFor { "192.0.2.7" } else { "for=192.0.2.7" };
        fields.append(field, added.parse().expect("a value"));
        assert_eq!(
            of(PEER, &fields),
            Client::Address("192.0.2.7".parse().expect("an address")),
            "{fields:?}"
        );
    }
}

/// Clients of IPv6 are told apart by 64 bits.
fn first_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::from((u128::from(address) >> 64 << 64).to_be_bytes()),
    }
}

fn is_trusted(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[0] == 10,
        IpAddr::V6(address) => address.octets()[0] == 0xfd,
    }
}

/// Nothing, where there are quotes or long entries, of which the model does not know.
fn naive(asked: &Head) -> Option<IpAddr> {
    let mut client = PEER;
    let lines: Vec<&[u8]> = asked.values("x-forwarded-for").collect();
    let whole = lines.join(&b","[..]);
    if whole.contains(&b'"') || lines.is_empty() || whole.len() > 512 {
        return None;
    }
    for entry in whole.split(|byte| *byte == b',').rev().take(16) {
        let entry = std::str::from_utf8(entry).ok().map(|entry| entry.trim_matches([' ', '\t']));
        let Some(address) = entry.and_then(address) else { break };
        client = address;
        if !is_trusted(client) {
            break;
        }
    }
    Some(client)
}

fn address(text: &str) -> Option<IpAddr> {
    let plain = text.parse::<IpAddr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let in_brackets = || {
        let inside = text.strip_prefix('[')?.strip_suffix(']')?;
        inside.parse::<std::net::Ipv6Addr>().ok().map(IpAddr::V6)
    };
    plain.or_else(with_port).or_else(in_brackets).map(|address| address.to_canonical())
}
