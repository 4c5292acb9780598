use std::{
    error::Error,
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

/// Addresses with the same leading bits: `10.0.0.0/8`, `2001:db8::/32`, or one address.
///
/// An IPv4 address that is written as an IPv6 one (`::ffff:10.0.0.1`, as sockets for both have it) is an IPv4 address.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    /// An IPv4 address as `::ffff:0:0/96` has it.
    bits: u128,
    /// Of 128.
    prefix: u8,
}

/// How many bits of a mapped IPv4 address are the same for all.
const MAPPED: u8 = 96;

impl Network {
    /// The addresses whose first `prefix` bits are those of this one.
    ///
    /// # Errors
    /// If it has not so many bits.
    pub fn try_new(address: IpAddr, prefix: u8) -> Result<Self, InvalidNetwork> {
        let (most, before) = if address.is_ipv4() { (32, MAPPED) } else { (128, 0) };
        if prefix > most {
            return Err(InvalidNetwork);
        }
        let prefix = before + prefix;
        Ok(Self { bits: bits(address) & mask(prefix), prefix })
    }

    /// Whether that address is one of these. No IPv4 address is one of a larger IPv6 network.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        let of_one_kind = is_mapped(self.bits) && self.prefix >= MAPPED || !is_mapped(bits(address));
        of_one_kind && bits(address) & mask(self.prefix) == self.bits
    }

    /// Its first address.
    #[must_use]
    pub(super) fn first(self) -> IpAddr {
        Ipv6Addr::from_bits(self.bits).to_canonical()
    }
}

const fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

const fn mask(prefix: u8) -> u128 {
    // Shifting all of them out is not a shift.
    match u128::MAX.checked_shl(128 - prefix as u32) {
        Some(mask) => mask,
        None => 0,
    }
}

const fn is_mapped(bits: u128) -> bool {
    bits >> 32 == 0xffff
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        Self { bits: bits(address), prefix: 128 }
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| InvalidNetwork)?;
        match prefix {
            Some(prefix) if prefix.bytes().all(|byte| byte.is_ascii_digit()) => {
                Self::try_new(address, prefix.parse().map_err(|_| InvalidNetwork)?)
            }
            Some(_) => Err(InvalidNetwork),
            None => Ok(address.into()),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_mapped(self.bits) && self.prefix >= MAPPED {
            return write!(f, "{}/{}", self.first(), self.prefix - MAPPED);
        }
        write!(f, "{}/{}", Ipv6Addr::from_bits(self.bits), self.prefix)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Network({self})")
    }
}

/// What is neither an address nor a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidNetwork;

impl fmt::Display for InvalidNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a network is an address, or an address with how many of its bits count, such as 10.0.0.0/8",
        )
    }
}

impl Error for InvalidNetwork {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    fn has(text: &str, address: &str) -> bool {
        network(text).contains(address.parse().unwrap())
    }

    #[test]
    fn an_address_is_in_a_network_by_its_first_bits() {
        assert!(has("10.0.0.0/8", "10.255.0.1"));
        assert!(!has("10.0.0.0/8", "11.0.0.1"));
        assert!(has("10.1.2.3/8", "10.255.0.1"), "the other bits do not matter");
        assert!(has("192.0.2.7", "192.0.2.7"));
        assert!(!has("192.0.2.7", "192.0.2.6"));
        assert!(has("2001:db8::/33", "2001:db8:7fff::1"));
        assert!(!has("2001:db8::/33", "2001:db8:8000::1"));
        assert!(has("::1", "::1"));
    }

    #[test]
    fn an_ipv4_address_is_one_however_it_is_written() {
        assert!(has("10.0.0.0/8", "::ffff:10.0.0.1"));
        assert!(has("::ffff:10.0.0.0/104", "10.9.9.9"));
        assert_eq!(network("::ffff:10.0.0.0/104"), network("10.0.0.0/8"));
        assert!(has("0.0.0.0/0", "203.0.113.9"));
        assert!(!has("0.0.0.0/0", "2001:db8::1"));
        assert!(!has("::/0", "203.0.113.9"), "all IPv6 addresses are not all addresses");
        assert!(!has("::/64", "::ffff:203.0.113.9"));
        assert!(has("::/0", "2001:db8::1"));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in
            ["", "/", "10.0.0.0/", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/+8", "10.0.0.0/256", "a/8"]
        {
            assert_eq!(text.parse::<Network>(), Err(InvalidNetwork), "{text}");
        }
    }

    proptest! {
        #[test]
        fn membership_is_what_comparing_bits_one_by_one_says(network: u32, address: u32, prefix in 0..=32_u8) {
            // Half of the time they have the prefix in common.
            for address in [address, (network & !(u32::MAX.checked_shr(prefix.into()).unwrap_or(0))) | (address & u32::MAX.checked_shr(prefix.into()).unwrap_or(0))] {
                let bit = |of: u32, at: u8| of >> (31 - at) & 1;
                let same = (0..prefix).all(|at| bit(network, at) == bit(address, at));
                let as_v4 = IpAddr::from(std::net::Ipv4Addr::from_bits(address));
                let made = Network::try_new(std::net::Ipv4Addr::from_bits(network).into(), prefix).unwrap();
                prop_assert_eq!(made.contains(as_v4), same);
                prop_assert_eq!(made.to_string().parse(), Ok(made));
            }
        }

        #[test]
        fn an_ipv6_network_has_its_own_address_and_not_one_that_differs_in_its_prefix(
            bits: u128, prefix in 1..=128_u8, flip in 0..128_u8,
        ) {
            prop_assume!(!is_mapped(bits) && !is_mapped(bits ^ (1 << (127 - flip % prefix))));
            let address = |bits| IpAddr::from(Ipv6Addr::from_bits(bits));
            let made = Network::try_new(address(bits), prefix).unwrap();
            prop_assert!(made.contains(address(bits)));
            prop_assert!(!made.contains(address(bits ^ (1 << (127 - flip % prefix)))));
            prop_assert_eq!(made.to_string().parse(), Ok(made));
        }

        #[test]
        fn no_text_panics(text in "[0-9a-f:./+ ]{0,30}") {
            let _ = text.parse::<Network>();
        }
    }
}
