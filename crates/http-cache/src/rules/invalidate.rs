use http::{HeaderMap, HeaderName, StatusCode, Uri, header, request, response, uri::Scheme};

use super::Rules;

impl Rules {
    /// Which addresses are not to be answered from the store any more (RFC 9111, section 4.4): after a request by a method
    /// that is not safe, or of which nobody knows, and an answer that is no error, its `target` (an absolute address) and
    /// what `Location` and `Content-Location` name. Those count only at the target's own origin, so that no server wears
    /// out another one's responses. Three at most.
    #[must_use]
    pub fn invalidated(
        &self,
        request: &request::Parts,
        response: &response::Parts,
        target: &Uri,
    ) -> Vec<Uri> {
        if request.method.is_safe() || !is_no_error(response.status) {
            return Vec::new();
        }
        let mut all = vec![target.clone()];
        for field in [header::LOCATION, header::CONTENT_LOCATION] {
            if let Some(named) = named(&response.headers, &field, target)
                && is_same_origin(&named, target)
                && !all.contains(&named)
            {
                all.push(named);
            }
        }
        all
    }
}

fn is_no_error(status: StatusCode) -> bool {
    status.is_success() || status.is_redirection()
}

fn named(headers: &HeaderMap, field: &HeaderName, target: &Uri) -> Option<Uri> {
    resolve(target, headers.get(field)?.to_str().ok()?.trim())
}

fn is_same_origin(one: &Uri, other: &Uri) -> bool {
    let (Some(a), Some(b)) = (one.host(), other.host()) else {
        return false;
    };
    one.scheme() == other.scheme() && a.eq_ignore_ascii_case(b) && port(one) == port(other)
}

fn port(uri: &Uri) -> Option<u16> {
    uri.port_u16().or_else(|| match uri.scheme()? {
        scheme if *scheme == Scheme::HTTP => Some(80),
        scheme if *scheme == Scheme::HTTPS => Some(443),
        _ => None,
    })
}

/// RFC 3986, section 5.2, as far as an address of HTTP goes.
fn resolve(base: &Uri, reference: &str) -> Option<Uri> {
    let reference = reference.split('#').next()?;
    let parse = |text: &str| {
        let uri: Uri = text.parse().ok()?;
        with_path(&uri, uri.path(), uri.query())
    };
    if has_scheme(reference) {
        return parse(reference);
    }
    if reference.starts_with("//") {
        return parse(&format!("{}:{reference}", base.scheme_str()?));
    }
    let (path, query) = match reference.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (reference, None),
    };
    if path.is_empty() {
        return with_path(base, base.path(), query.or(base.query()));
    }
    if path.starts_with('/') {
        return with_path(base, path, query);
    }
    let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
    with_path(base, &format!("{folder}/{path}"), query)
}

fn has_scheme(reference: &str) -> bool {
    let end = reference.find([':', '/', '?']);
    let Some((scheme, _)) =
        end.filter(|end| reference[*end..].starts_with(':')).map(|end| reference.split_at(end))
    else {
        return false;
    };
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.chars().all(|char| char.is_ascii_alphanumeric() || matches!(char, '+' | '-' | '.'))
}

fn with_path(origin: &Uri, path: &str, query: Option<&str>) -> Option<Uri> {
    let mut text = without_dots(path);
    if let Some(query) = query {
        text.push('?');
        text.push_str(query);
    }
    let mut parts = origin.clone().into_parts();
    parts.path_and_query = Some(text.parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// RFC 3986, section 5.2.4.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}
