use std::time::Duration;

use axum::{
    Json, Router,
    extract::{
        Path, State as Extract,
        rejection::{JsonRejection, PathRejection},
    },
    response::{IntoResponse, Response},
    routing::{get, post},
};
use buttress_circuit_breaker::State as BreakerState;
use buttress_core::{Observe, Respond, problem};
use buttress_postgres::{Query, Row};
use buttress_telemetry::UrlTemplate;
use buttress_timeout::TimeoutLayer;
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tower::ServiceExt;

use super::{Database, State, problem::Problem};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct User {
    pub(super) id: i64,
    name: String,
    email: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewUser {
    name: String,
    email: String,
}

pub(super) fn router(state: State) -> Router {
    Router::new()
        .route("/users", post(create_user))
        .route("/users/{id}", get(read_user))
        .route("/users/{id}/profile", get(read_profile))
        // The deadline that everything inside honours.
        .layer(Respond::with(TimeoutLayer::new(Duration::from_secs(3)).named("gateway"), problem))
        .route("/healthz", get(health))
        .with_state(state)
}

async fn read_user(
    Extract(state): Extract<State>,
    id: Result<Path<i64>, PathRejection>,
) -> Result<Json<User>, Problem> {
    let Path(id) = id?;
    Ok(Json(find_user(&state, id).await?))
}

async fn create_user(
    Extract(state): Extract<State>,
    new: Result<Json<NewUser>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(new) = new?;
    if new.name.trim().is_empty() || new.name.len() > 200 {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "a name has 1 to 200 bytes"));
    }
    if !new.email.contains('@') || new.email.len() > 320 {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "that is no e-mail address"));
    }
    if new.name.contains('\0') || new.email.contains('\0') {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "a name or an e-mail address has no NUL in it"));
    }
    let insert =
        Query::new("insert into users (name, email) values (:name, :email) returning id, name, email")
            .bind("name", new.name)
            .bind("email", new.email);
    let user = user(&database(&state)?.writes.clone().oneshot(insert).await?.one()?)?;
    state.cache.put(&user).await;
    let location = format!("/users/{}", user.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(user)).into_response())
}

async fn read_profile(
    Extract(state): Extract<State>,
    id: Result<Path<i64>, PathRejection>,
) -> Result<Json<serde_json::Value>, Problem> {
    let Path(id) = id?;
    let user = find_user(&state, id).await?;
    let request = Request::get(format!("{}/profiles/{id}", state.upstream_url))
        .extension(UrlTemplate("/profiles/{id}"))
        .body(Full::<Bytes>::default())
        .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let response = state.upstream.clone().oneshot(request).await?;
    if !response.status().is_success() {
        let detail = format!("the profile service answered {}", response.status().as_u16());
        return Err(Problem::new(StatusCode::BAD_GATEWAY, detail));
    }
    let unreadable = || Problem::new(StatusCode::BAD_GATEWAY, "the profile service's answer cannot be read");
    let body = Limited::new(response.into_body(), 64 * 1024).collect().await.map_err(|_| unreadable())?;
    let profile: serde_json::Value = serde_json::from_slice(&body.to_bytes()).map_err(|_| unreadable())?;
    Ok(Json(json!({ "user": user, "profile": profile })))
}

/// 200 as long as the process can serve; what is behind it says how it is.
async fn health(Extract(state): Extract<State>) -> Json<serde_json::Value> {
    let mut backends = serde_json::Map::new();
    for breaker in &state.breakers {
        let now = breaker.snapshot();
        let figures = json!({
            "state": now.state.as_str(), "calls": now.calls, "failed": now.failed, "opened": now.opened,
        });
        backends.insert(breaker.origin().name().into(), figures);
    }
    let well = state.database.is_some()
        && state.breakers.iter().all(|breaker| breaker.state() == BreakerState::Closed);
    Json(json!({ "status": if well { "ok" } else { "degraded" }, "backends": backends }))
}

async fn find_user(state: &State, id: i64) -> Result<User, Problem> {
    if let Some(user) = state.cache.get(id).await {
        return Ok(user);
    }
    let select = Query::new("select id, name, email from users where id = :id").bind("id", id);
    let rows = database(state)?.reads.clone().oneshot(select).await?;
    let row = rows
        .optional()?
        .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, format!("there is no user {id}")))?;
    let user = user(&row)?;
    state.cache.put(&user).await;
    Ok(user)
}

fn database(state: &State) -> Result<&Database, Problem> {
    let missing =
        "there is no database: set DATABASE_URL, or run `cargo xtask setup` to install a throw-away one";
    state.database.as_ref().ok_or_else(|| Problem::new(StatusCode::SERVICE_UNAVAILABLE, missing))
}

fn user(row: &Row) -> Result<User, buttress_postgres::Error> {
    Ok(User { id: row.get("id")?, name: row.get("name")?, email: row.get("email")? })
}
