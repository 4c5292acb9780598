use http::{
    Uri,
    uri::{Authority, Parts, PathAndQuery, Scheme},
};
use url::Url;

use super::{
    path::{self, Params},
    setting::InvalidSetting,
};

/// A base URL, taken apart once, so that a call clones its parts and parses nothing but its own path.
#[derive(Debug, Clone)]
pub(crate) struct BaseUrl {
    scheme: Scheme,
    authority: Authority,
    /// Without a slash at its end.
    path: String,
}

impl BaseUrl {
    pub(crate) fn parse(url: &str) -> Result<Self, InvalidSetting> {
        let wrong = |why| InvalidSetting::new("base_url", why);
        // `Uri` drops a fragment without a word.
        if url.contains('#') {
            return Err(wrong("a fragment has no place in it"));
        }
        let parts = url
            .parse::<Uri>()
            .map_err(|_| wrong("it is not a URL such as `https://host/path`"))?
            .into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err(wrong("it must be absolute, with scheme and host"));
        };
        if scheme != Scheme::HTTP && scheme != Scheme::HTTPS {
            return Err(wrong("its scheme must be http or https"));
        }
        if authority.as_str().contains('@') {
            return Err(wrong("it has userinfo: give credentials by `basic`"));
        }
        if authority.host().is_empty() {
            return Err(wrong("it has no host"));
        }
        let after_host = &authority.as_str()[authority.host().len()..];
        if !after_host.is_empty() && authority.port_u16().is_none() {
            return Err(wrong("its port is no number up to 65535"));
        }
        // `Uri` takes what no resolver does, `a[b]` and `:+80`; and by this one redirects are told apart.
        if Url::parse(url).is_err() {
            return Err(wrong("its host or port is malformed"));
        }
        let path_and_query = parts.path_and_query.as_ref();
        if path_and_query.is_some_and(|path| path.query().is_some()) || url.contains('?') {
            return Err(wrong("a query has no place in it: give it with each call"));
        }
        let literal = path_and_query.map_or("", PathAndQuery::path);
        let mut path = String::new();
        path::expand(&mut path, literal, &mut Params::default(), "base_url")?;
        path.truncate(path.trim_end_matches('/').len());
        Ok(Self { scheme, authority, path })
    }

    /// The URL of a call: below the base, by exactly one slash.
    pub(crate) fn join(
        &self,
        template: &str,
        params: &mut Params<'_>,
        query: &str,
    ) -> Result<Uri, InvalidSetting> {
        if template.starts_with("//") || template.contains("://") {
            return Err(InvalidSetting::new("path", "it must be relative to the base URL"));
        }
        let mut path = String::with_capacity(self.path.len() + template.len() + query.len() + 32);
        path.push_str(&self.path);
        if !template.starts_with('/') && (self.path.is_empty() || !template.is_empty()) {
            path.push('/');
        }
        path::expand(&mut path, template, params, "path")?;
        if !query.is_empty() {
            path.push('?');
            path.push_str(query);
        }
        let too_long = |_| InvalidSetting::new("path", "with its query it is longer than 65534 bytes");
        let mut parts = Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query =
            Some(PathAndQuery::from_maybe_shared(bytes::Bytes::from(path)).map_err(too_long)?);
        Uri::from_parts(parts).map_err(|_| InvalidSetting::new("path", "it makes no URL"))
    }

    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    pub(crate) fn scheme(&self) -> &Scheme {
        &self.scheme
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(base: &str, path: &str) -> String {
        BaseUrl::parse(base).unwrap().join(path, &mut Params::default(), "").unwrap().to_string()
    }

    #[test]
    fn base_and_path_are_joined_by_exactly_one_slash() {
        for base in ["https://stock.internal/v1", "https://stock.internal/v1/"] {
            for path in ["items", "/items"] {
                assert_eq!(join(base, path), "https://stock.internal/v1/items");
            }
            assert_eq!(join(base, ""), "https://stock.internal/v1");
            assert_eq!(join(base, "/"), "https://stock.internal/v1/");
        }
        for base in ["http://[::1]:8080", "http://[::1]:8080/"] {
            assert_eq!(join(base, ""), "http://[::1]:8080/");
            assert_eq!(join(base, "/items/"), "http://[::1]:8080/items/");
        }
    }

    #[test]
    fn a_base_that_cannot_be_one_says_why_and_does_not_show_it() {
        for (url, why) in [
            ("", "not a URL"),
            ("secret url", "not a URL"),
            ("/secret", "absolute"),
            ("secret", "absolute"),
            ("secret:80", "absolute"),
            ("ftp://secret/", "scheme"),
            ("https:///secret", "not a URL"),
            ("https://:80/secret", "no host"),
            ("https://secret:99999", "port"),
            ("https://secret:", "port"),
            ("https://secret:+80", "malformed"),
            ("https://secret[::1]", "port"),
            ("https://[secret]", "malformed"),
            ("https://secret[b]", "malformed"),
            ("https://[]/secret", "malformed"),
            ("https://secret\\@stock", "not a URL"),
            ("https://b\u{fc}cher/secret", "not a URL"),
            ("https://user:secret@stock", "`basic`"),
            ("https://secret@stock", "`basic`"),
            ("https://stock/?secret=1", "query"),
            ("https://stock/v1?", "query"),
            ("https://stock/#secret", "fragment"),
            ("https://stock/secret/../v1", "dot"),
            ("https://stock/%2E%2e/secret", "dot"),
            ("https://stock//secret", "empty"),
            ("https://stock/{secret}", "characters"),
            ("https://stock/a\r\nsecret: b", "not a URL"),
        ] {
            let error = BaseUrl::parse(url).unwrap_err();
            assert_eq!(error.knob(), "base_url");
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(why), "{url}: {shown}");
            assert!(!shown.contains("secret"), "{url}: {shown}");
        }
    }
}
