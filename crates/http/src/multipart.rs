use std::fmt::{self, Write as _};

use http::HeaderValue;

use crate::{random::random_words, request_body::Body};

/// A form of several parts, files among them: `multipart/form-data` (RFC 7578).
///
/// Names and file names are written as browsers write them: UTF-8, with `"`, CR and LF as `%22`, `%0D` and `%0A` (WHATWG
/// HTML, 4.10.21.8), so that none can end its header. The boundary is random, so that no content can guess it.
///
/// Where the lengths of all parts are known, so is that of the form. Where all of them are held, so is the form.
///
/// ```
/// use buttress_http::{Body, Multipart, Part};
/// use http::{HeaderValue, Request, header::CONTENT_TYPE};
///
/// let scan = Part::new(vec![0xff; 1000]).file_name("scan.jpg").content_type(HeaderValue::from_static("image/jpeg"));
/// let form = Multipart::new().text("order", "7").part("scan", scan);
/// let request = Request::post("http://stock.internal/scans")
///     .header(CONTENT_TYPE, form.content_type())
///     .body(form.into_body())?;
/// # assert!(request.body().is_held());
/// # Ok::<_, http::Error>(())
/// ```
#[must_use = "a form does nothing unless it is sent"]
pub struct Multipart {
    boundary: String,
    bodies: Vec<Body>,
    /// What stands before the next part, or before the end.
    between: String,
}

impl Multipart {
    /// A form without parts.
    pub fn new() -> Self {
        let [high, low] = random_words();
        Self { boundary: format!("{high:016x}{low:016x}"), bodies: Vec::new(), between: String::new() }
    }

    /// Adds a field of text.
    pub fn text(self, name: &str, value: impl Into<String>) -> Self {
        self.part(name, Part::new(value.into()))
    }

    /// Adds a part. Several may have the same name.
    pub fn part(mut self, name: &str, part: Part) -> Self {
        let mut head = self.between;
        let _ =
            write!(head, "--{}\r\ncontent-disposition: form-data; name=\"{}\"", self.boundary, Escaped(name));
        if let Some(file_name) = &part.file_name {
            let _ = write!(head, "; filename=\"{}\"", Escaped(file_name));
        }
        head.push_str("\r\n");
        let mut head = head.into_bytes();
        let octets = || HeaderValue::from_static("application/octet-stream");
        if let Some(content_type) = part.content_type.or_else(|| part.file_name.as_ref().map(|_| octets())) {
            head.extend_from_slice(b"content-type: ");
            // Not by its `Debug` or as text: a header's value may be other than UTF-8.
            head.extend_from_slice(content_type.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        self.bodies.push(head.into());
        self.bodies.push(part.body);
        self.between = "\r\n".to_owned();
        self
    }

    /// The value of the request's `Content-Type`.
    ///
    /// # Panics
    /// Never: a boundary consists of hexadecimal digits.
    #[must_use]
    pub fn content_type(&self) -> HeaderValue {
        HeaderValue::try_from(format!("multipart/form-data; boundary={}", self.boundary))
            .expect("it is printable ASCII")
    }

    /// The request's body. Ask for the [`content_type`](Self::content_type) before.
    #[must_use]
    pub fn into_body(mut self) -> Body {
        self.bodies.push(format!("{}--{}--\r\n", self.between, self.boundary).into());
        Body::chain(self.bodies)
    }
}

impl Default for Multipart {
    fn default() -> Self {
        Self::new()
    }
}

/// How many parts it has, and nothing of them.
impl fmt::Debug for Multipart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Multipart").field("parts", &(self.bodies.len() / 2)).finish_non_exhaustive()
    }
}

/// One part of a [`Multipart`] form.
#[must_use = "a part does nothing unless it is added to a form"]
pub struct Part {
    body: Body,
    file_name: Option<String>,
    content_type: Option<HeaderValue>,
}

impl Part {
    /// A part of text, bytes, or a streamed [`Body`].
    pub fn new(body: impl Into<Body>) -> Self {
        Self { body: body.into(), file_name: None, content_type: None }
    }

    /// Makes a file of it. What is given here is what the server sees: leave out the folders.
    pub fn file_name(mut self, name: impl Into<String>) -> Self {
        self.file_name = Some(name.into());
        self
    }

    /// Says what it is. By default a file is `application/octet-stream`, and any other part says nothing, which means
    /// `text/plain`.
    pub fn content_type(mut self, content_type: HeaderValue) -> Self {
        self.content_type = Some(content_type);
        self
    }
}

/// The length of its body, if it is known.
impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part").field("body", &self.body).finish_non_exhaustive()
    }
}

/// A name as it stands between quotes.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for char in self.0.chars() {
            match char {
                '"' => f.write_str("%22")?,
                '\r' => f.write_str("%0D")?,
                '\n' => f.write_str("%0A")?,
                char => f.write_char(char)?,
            }
        }
        Ok(())
    }
}
