#![doc = include_str!("http/README.md")]

mod advertise;
mod client;
mod fields;
mod forwarded;
mod keys;
mod legacy;
mod limiters;
mod network;
mod obey;
mod policy;
mod proxies;
mod restrictions;
mod say;
mod subject;
mod text;

pub use self::{
    advertise::{Advertise, AdvertiseFuture, AdvertiseLayer},
    client::{Client, ClientIp, InvalidPrefix},
    keys::{Path, header, path},
    limiters::{Key, WithKey},
    network::{InvalidNetwork, Network},
    obey::{Obey, ObeyFuture, ObeyLayer},
    policy::{InvalidName, Policy, Remaining},
    proxies::{Forwarding, Proxies},
    restrictions::{Restriction, Restrictions},
    subject::{Obeys, Quotas, Subjects},
};
