use std::{
    fmt,
    hash::{Hash, Hasher},
};

use http::{HeaderName, HeaderValue, Request, Uri};

/// A key: the value of that header field, such as `x-api-key`. Those without it are one key; of several values the first
/// counts.
///
/// It costs no copy of the value where that is part of what was received, as hyper has it.
pub fn header<B>(name: HeaderName) -> impl Fn(&Request<B>) -> Option<HeaderValue> + Clone {
    move |request| request.headers().get(&name).cloned()
}

/// A key: the path, without the query. Two ways to write the same path are two keys.
///
/// It costs no copy of the path where that is part of what was received, as hyper has it.
pub fn path<B>(request: &Request<B>) -> Path {
    Path(request.uri().clone())
}

/// The path of a request: made by [`path`].
#[derive(Clone)]
pub struct Path(Uri);

impl Hash for Path {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.path().hash(state);
    }
}

impl PartialEq for Path {
    fn eq(&self, other: &Self) -> bool {
        self.0.path() == other.0.path()
    }
}

impl Eq for Path {}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Path({:?})", self.0.path())
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, RandomState};

    use super::*;

    fn get(uri: &str) -> Request<()> {
        Request::get(uri).header("x-api-key", "one").header("x-api-key", "two").body(()).unwrap()
    }

    #[test]
    fn a_path_is_a_key_without_its_query_and_host() {
        let hasher = RandomState::new();
        let (a, b) = (path(&get("http://a/x?one")), path(&get("https://b/x?two")));
        assert_eq!((hasher.hash_one(&a), &a), (hasher.hash_one(&b), &b));
        let other = path(&get("/y?one"));
        assert_ne!(hasher.hash_one(&a), hasher.hash_one(&other));
        assert_ne!(a, other);
    }

    #[test]
    fn a_header_is_a_key_by_its_first_value() {
        assert_eq!(header(HeaderName::from_static("x-api-key"))(&get("/")).unwrap(), "one");
        assert_eq!(header(HeaderName::from_static("x-other"))(&get("/")), None);
    }
}
