use axum::{
    Router,
    extract::RawQuery,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

use crate::{Health, Report, json};

/// What one path asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    Live,
    Ready,
    Startup,
    Whole,
}

impl Question {
    const PATHS: [(&'static str, Self); 4] = [
        ("/livez", Self::Live),
        ("/readyz", Self::Ready),
        ("/startupz", Self::Startup),
        ("/healthz", Self::Whole),
    ];

    pub(crate) fn holds(self, report: &Report) -> bool {
        match self {
            Self::Live => report.is_live(),
            Self::Ready => report.is_ready(),
            Self::Startup => report.is_started(),
            Self::Whole => report.is_ready() && report.is_live(),
        }
    }
}

impl Health {
    /// `/livez`, `/readyz`, `/startupz` and `/healthz`: 200 or 503, and a word of text. No details, whatever the query says. It
    /// holds a handle of this health.
    pub fn router<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        self.routes(false)
    }

    /// The same, and with `?verbose` every part with its state and cause, as `application/health+json`. Causes name internal
    /// hosts and what is wrong with them: not for the public.
    pub fn verbose_router<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        self.routes(true)
    }

    fn routes<S: Clone + Send + Sync + 'static>(&self, may_be_verbose: bool) -> Router<S> {
        Question::PATHS.into_iter().fold(Router::new(), |router, (path, question)| {
            let health = self.clone();
            let answer = async move |RawQuery(query): RawQuery| {
                let verbose = may_be_verbose && query.is_some_and(|query| asks_for_details(&query));
                answer(&health.report(), question, verbose)
            };
            router.route(path, get(answer))
        })
    }
}

/// `verbose` or `verbose=1`; what else there is does not matter.
fn asks_for_details(query: &str) -> bool {
    query.split('&').any(|pair| match pair.split_once('=') {
        Some(("verbose", value)) => !matches!(value, "0" | "false"),
        _ => pair == "verbose",
    })
}

fn answer(report: &Report, question: Question, verbose: bool) -> Response {
    let holds = question.holds(report);
    let status = if holds { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let (kind, body) = if verbose {
        ("application/health+json", json::document(report, question))
    } else {
        ("text/plain; charset=utf-8", String::from(if holds { "ok\n" } else { "unavailable\n" }))
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers, body).into_response()
}
