//! Reports over requests of data subjects: what is due when, how requests were answered, and the records of processing.
//!
//! Nothing here is about one person: there are ids of requests, dates, states and counts.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use idtrail_rights::report::{deadlines as due, figures as counted, figures_csv};
use jiff::civil::Date;
use serde::Deserialize;
use serde_json::{Value, json};

use super::rights::{admit, problem};
use super::{AppState, answer};
use crate::auth::{CallingSystem, Person};
use crate::openapi;
use crate::problem::Problem;

/// The form of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// JSON.
    #[default]
    Json,
    /// CSV (RFC 4180).
    Csv,
}

/// Which days, and in which form.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// First day of receipt.
    pub from: Date,
    /// Last day of receipt.
    pub to: Date,
    /// The form.
    #[serde(default)]
    pub format: Form,
}

/// In which form.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Formed {
    /// The form.
    #[serde(default)]
    pub format: Form,
}

/// Lists the open requests with their dates
///
/// The most urgent first; what has no date, because its clock stands or it was answered, is last.
///
/// # Errors
/// 401, 403, 429 or 503.
#[utoipa::path(
    get,
    path = "/api/v1/rights/reports/deadlines",
    operation_id = "rights_deadlines",
    tag = "rights",
    responses(
        (status = 200, description = "The dates.", body = serde_json::Map<String, Value>),
        openapi::ReadProblems
    ),
    security(("ApiKey" = [], "Bearer" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["dpo"], "Bearer": ["dpo"] })))
)]
pub async fn deadlines(
    State(state): State<AppState>,
    system: CallingSystem,
    person: Person,
) -> Result<Response, Problem> {
    admit(&state, &system, &person)?;
    let now_ms = state.engine().now_ms();
    let list = state.rights().read(|cases, rules| {
        let today = rules.zone.date(now_ms).map_err(|_| Problem::internal())?;
        Ok::<_, Problem>((today, due(cases.map(|(case, _)| case), rules, today)))
    });
    let (today, list) = list.map_err(problem)??;
    Ok(answer(StatusCode::OK, &json!({ "today": today, "deadlines": list })))
}

/// Counts how requests were answered
///
/// By law and kind, of the requests received in a period: received, complied with, in part, denied and why, withdrawn,
/// open, late, median and mean days (11 CCR §7102).
///
/// # Errors
/// 400, 401, 403, 429 or 503.
#[utoipa::path(
    get,
    path = "/api/v1/rights/reports/figures",
    operation_id = "rights_figures",
    tag = "rights",
    params(
        ("from" = String, Query, description = "First day of receipt.", example = "2026-01-01"),
        ("to" = String, Query, description = "Last day of receipt.", example = "2026-12-31"),
        ("format" = Option<String>, Query, description = "`json` or `csv`. Without it `json`.", nullable = false)
    ),
    responses(
        (status = 200, description = "The figures.", body = serde_json::Map<String, Value>),
        openapi::RequestProblem,
        openapi::ReadProblems
    ),
    security(("ApiKey" = [], "Bearer" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["dpo"], "Bearer": ["dpo"] })))
)]
pub async fn figures(
    State(state): State<AppState>,
    system: CallingSystem,
    person: Person,
    query: Result<Query<Figures>, QueryRejection>,
) -> Result<Response, Problem> {
    admit(&state, &system, &person)?;
    let Query(Figures { from, to, format }) = query?;
    let all = state.rights().read(|cases, rules| counted(cases.map(|(case, _)| case), rules, from, to));
    let all = all.map_err(problem)?;
    if format == Form::Csv {
        return Ok(csv(figures_csv(&all)));
    }
    let rows = all.iter().map(|((regime, kind), figures)| {
        let mut row = serde_json::to_value(figures).unwrap_or_default();
        if let Some(members) = row.as_object_mut() {
            members.insert("regime".to_owned(), json!(regime));
            members.insert("kind".to_owned(), json!(kind));
        }
        row
    });
    let rows: Vec<Value> = rows.collect();
    Ok(answer(StatusCode::OK, &json!({ "from": from, "to": to, "figures": rows })))
}

/// Gives the records of processing activities
///
/// As they are configured (Art. 30).
///
/// # Errors
/// 400, 401, 403, 404, 429 or 503.
#[utoipa::path(
    get,
    path = "/api/v1/rights/reports/processing",
    operation_id = "rights_processing",
    tag = "rights",
    params(("format" = Option<String>, Query, description = "`json` or `csv`. Without it `json`.", nullable = false)),
    responses(
        (status = 200, description = "The records.", body = serde_json::Map<String, Value>),
        openapi::RequestProblem,
        openapi::ReadProblems,
        openapi::NotFoundProblem
    ),
    security(("ApiKey" = [], "Bearer" = [])),
    extensions(("x-idtrail-roles" = json!({ "ApiKey": ["dpo"], "Bearer": ["dpo"] })))
)]
pub async fn processing(
    State(state): State<AppState>,
    system: CallingSystem,
    person: Person,
    query: Result<Query<Formed>, QueryRejection>,
) -> Result<Response, Problem> {
    admit(&state, &system, &person)?;
    let Query(Formed { format }) = query?;
    let records = state.rights().processing();
    let records = records.ok_or_else(|| Problem::not_found("no records of processing are configured"))?;
    if format == Form::Csv {
        return Ok(csv(records.export_csv()));
    }
    Ok(answer(StatusCode::OK, &json!(records)))
}

fn csv(text: String) -> Response {
    ([(CONTENT_TYPE, "text/csv; charset=utf-8"), (CACHE_CONTROL, "no-store")], text).into_response()
}
