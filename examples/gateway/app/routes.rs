use std::time::Duration;

use axum::{
    Json, Router,
    extract::{
        Path, State,
        rejection::{JsonRejection, PathRejection},
    },
    response::{IntoResponse, Response},
    routing::{get, post},
};
use buttress::{
    Error, System,
    core::{Respond, problem},
    postgres::{FromRow, Query},
    telemetry::UrlTemplate,
    timeout::TimeoutLayer,
};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{orders::place_order, problem::Problem, settings::PROFILES};

#[derive(Debug, Clone, FromRow, Serialize, Deserialize)]
struct User {
    id: i64,
    name: String,
    email: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewUser {
    name: String,
    email: String,
}

pub(super) fn router(system: &System) -> Router {
    Router::new()
        .route("/users", post(create_user))
        .route("/users/{id}", get(read_user))
        .route("/users/{id}/profile", get(read_profile))
        .route("/orders", post(place_order))
        // The deadline that everything inside honours.
        .layer(Respond::with(TimeoutLayer::new(Duration::from_secs(3)).name("gateway"), problem))
        .with_state(system.clone())
        .merge(system.health().router())
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "there is nothing of this path"))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this path has other methods")
        })
}

async fn read_user(
    State(system): State<System>,
    id: Result<Path<i64>, PathRejection>,
) -> Result<Json<User>, Problem> {
    let Path(id) = id?;
    Ok(Json(find_user(&system, id).await?))
}

async fn create_user(
    State(system): State<System>,
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
    let user: User = system.query_as(insert).await?.remove(0);
    keep(&system, &user).await;
    let location = format!("/users/{}", user.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(user)).into_response())
}

async fn read_profile(
    State(system): State<System>,
    id: Result<Path<i64>, PathRejection>,
) -> Result<Json<serde_json::Value>, Problem> {
    let Path(id) = id?;
    let user = find_user(&system, id).await?;
    const PATH: &str = "/profiles/{id}";
    let ask = system.http(PROFILES)?.get(PATH).param("id", id).extension(UrlTemplate(PATH));
    let answer = ask.send().await?;
    let profile: serde_json::Value = answer.json().await?;
    Ok(Json(json!({ "user": user, "profile": profile })))
}

async fn find_user(system: &System, id: i64) -> Result<User, Problem> {
    if let Some(user) = system.cache()?.get(&key(id)).await? {
        return Ok(user);
    }
    let select = Query::new("select id, name, email from users where id = :id").bind("id", id);
    let user: Option<User> = system.query_opt_as(select).await?;
    let user = user.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, format!("there is no user {id}")))?;
    // Not waited for: where Redis does not answer, every reader would pay its time limit for what he has already.
    tokio::spawn({
        let (system, user) = (system.clone(), user.clone());
        async move { keep(&system, &user).await }
    });
    Ok(user)
}

/// A cache never fails a request: then the next one asks the database.
async fn keep(system: &System, user: &User) {
    let kept: Result<(), Error> = async { system.cache()?.set(&key(user.id), user).await }.await;
    if let Err(error) = kept {
        tracing::debug!(%error, "the cache is no help");
    }
}

fn key(id: i64) -> String {
    format!("user/{id}")
}
