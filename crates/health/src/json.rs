//! `application/health+json`, draft-inadarei-api-health-check-06.

use serde_json::{Map, Value, json};

use crate::{Cause, Overall, PartReport, Report, State, router::Question, wall::rfc3339};

/// The status is always that of the answer's code, so only those parts stand in it that the question is about.
pub(crate) fn document(report: &Report, question: Question) -> String {
    let (status, output) = match question {
        Question::Ready | Question::Whole => (report.overall(), report.summary().why_not_ready()),
        Question::Live => (pass_or_fail(report.is_live()), report.summary().why_not_live()),
        Question::Startup => (pass_or_fail(report.is_started()), None),
    };
    let is_asked_for = |part: &&PartReport| match question {
        Question::Live => part.liveness,
        Question::Startup => part.critical,
        Question::Ready | Question::Whole => true,
    };
    let checks: Map<String, Value> = report.parts().iter().filter(is_asked_for).map(check).collect();
    let mut document = json!({ "status": status.as_str(), "checks": checks });
    if let Some(output) = output.as_ref().map(Cause::as_str) {
        document["output"] = output.into();
    }
    document.to_string()
}

fn pass_or_fail(holds: bool) -> Overall {
    if holds { Overall::Pass } else { Overall::Fail }
}

/// Keyed by component and measurement; what has no probe has nothing measured.
fn check(part: &PartReport) -> (String, Value) {
    let status = match part.state {
        State::Up => Overall::Pass,
        State::Degraded => Overall::Warn,
        State::Unknown | State::Down => Overall::Fail,
    };
    let mut check = json!({
        "componentType": part.component_type,
        "status": status.as_str(),
        "state": part.state.as_str(),
        "since": rfc3339(part.since),
        "critical": part.critical,
    });
    if let Some(cause) = &part.cause {
        check["output"] = cause.as_str().into();
    }
    let mut key = part.name.to_owned();
    if let Some((at, took)) = part.probed {
        key.push_str(":responseTime");
        check["time"] = rfc3339(at).into();
        // Whole microseconds: more digits are noise.
        check["observedValue"] = (took.as_micros() as f64 / 1e3).into();
        check["observedUnit"] = "ms".into();
    }
    (key, json!([check]))
}
