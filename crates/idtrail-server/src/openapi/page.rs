//! The page `/docs`: the OpenAPI document for people, written once by this process.
//!
//! Plain HTML and one stylesheet from this binary: no script, no font, no picture, nothing from elsewhere. The content
//! security policy says so, so that a browser would refuse whatever might get in. What is shown comes from the document
//! alone.

use std::sync::LazyLock;

use askama::Template;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use serde_json::{Map, Value};

use super::{DOCUMENT, ROLES};

const POLICY: &str =
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[derive(Template)]
#[template(path = "docs.html")]
struct Page {
    title: String,
    version: String,
    description: Vec<String>,
    groups: Vec<Group>,
    schemas: Vec<(String, String)>,
}

struct Group {
    name: String,
    description: String,
    operations: Vec<Operation>,
}

struct Operation {
    id: String,
    method: String,
    path: String,
    summary: String,
    description: String,
    /// Each way to be allowed, in words.
    credentials: Vec<String>,
    parameters: Vec<Parameter>,
    body_schema: Option<String>,
    curl: String,
    answers: Vec<Answer>,
}

struct Parameter {
    name: String,
    place: String,
    required: bool,
    description: String,
}

struct Answer {
    status: String,
    description: String,
    schema: Option<String>,
}

/// Shows this interface to people
///
/// The page that describes every operation, from the same document as `/openapi.json`.
#[utoipa::path(
    get,
    path = "/docs",
    tag = "documentation",
    responses((status = 200, description = "The page.", body = String, content_type = "text/html")),
    security(())
)]
pub async fn docs() -> Response {
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, PAGE.clone()).into_response()
}

/// Gives the stylesheet of the page
#[utoipa::path(
    get,
    path = "/docs/style.css",
    tag = "documentation",
    responses((status = 200, description = "The stylesheet.", body = String, content_type = "text/css")),
    security(())
)]
pub async fn stylesheet() -> Response {
    let headers = [(CONTENT_TYPE, "text/css; charset=utf-8"), (CACHE_CONTROL, "no-cache")];
    (headers, include_str!("../../templates/docs.css")).into_response()
}

static PAGE: LazyLock<Bytes> = LazyLock::new(|| {
    let document: Value = serde_json::from_slice(&DOCUMENT).expect("the document is JSON");
    Bytes::from(page(&document).render().expect("writing into a string does not fail"))
});

fn page(document: &Value) -> Page {
    let paths = members(document.get("paths"));
    let all: Vec<(String, Operation)> = paths
        .iter()
        .flat_map(|(path, item)| members(Some(item)).into_iter().map(move |entry| (path.clone(), entry)))
        .filter(|(_, (_, operation))| operation.get("operationId").is_some())
        .map(|(path, (method, value))| {
            let tag = value.pointer("/tags/0").map(text).unwrap_or_default();
            (tag, operation(&path, &method, &value))
        })
        .collect();
    let mut groups: Vec<Group> = document
        .get("tags")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|tag| Group {
            name: member(tag, "name"),
            description: member(tag, "description"),
            operations: Vec::new(),
        })
        .collect();
    for (tag, operation) in all {
        match groups.iter_mut().find(|group| group.name == tag) {
            Some(group) => group.operations.push(operation),
            None => groups.push(Group { name: tag, description: String::new(), operations: vec![operation] }),
        }
    }
    groups.retain(|group| !group.operations.is_empty());
    let info = document.get("info").cloned().unwrap_or_default();
    let schemas = members(document.pointer("/components/schemas"));
    Page {
        title: member(&info, "title"),
        version: member(&info, "version"),
        description: member(&info, "description").split("\n\n").map(str::to_owned).collect(),
        groups,
        schemas: schemas.into_iter().map(|(name, schema)| (name, pretty(&schema))).collect(),
    }
}

fn operation(path: &str, method: &str, value: &Value) -> Operation {
    let list = |name: &str| value.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let media = members(value.pointer("/requestBody/content")).into_iter().next();
    Operation {
        id: member(value, "operationId"),
        method: method.to_ascii_uppercase(),
        path: path.to_owned(),
        summary: member(value, "summary"),
        description: member(value, "description"),
        credentials: list("security").iter().map(|way| credentials(way, value.get(ROLES))).collect(),
        parameters: list("parameters").iter().map(parameter).collect(),
        body_schema: media.as_ref().and_then(|(_, content)| schema_name(content)),
        curl: curl(path, method, value, media.as_ref()),
        answers: members(value.get("responses"))
            .into_iter()
            .map(|(status, answer)| match answer.get("$ref").map(text) {
                Some(reference) => Answer {
                    status,
                    description: words(reference.rsplit('/').next().unwrap_or_default()),
                    schema: Some("Problem".to_owned()),
                },
                None => Answer {
                    status,
                    description: member(&answer, "description"),
                    schema: members(answer.get("content"))
                        .into_iter()
                        .next()
                        .and_then(|(_, content)| schema_name(&content)),
                },
            })
            .collect(),
    }
}

/// Says which credentials one way needs, and with which roles.
fn credentials(way: &Value, roles: Option<&Value>) -> String {
    let needs: Vec<String> = members(Some(way))
        .into_iter()
        .map(|(scheme, _)| {
            let name = if scheme == super::API_KEY { "API key" } else { "token of a person" };
            let roles: Vec<String> = roles
                .and_then(|roles| roles.get(&scheme))
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .map(text)
                .collect();
            if roles.is_empty() { name.to_owned() } else { format!("{name} with {}", roles.join(" or ")) }
        })
        .collect();
    if needs.is_empty() { "nobody needs a credential".to_owned() } else { needs.join(" and ") }
}

fn parameter(value: &Value) -> Parameter {
    Parameter {
        name: member(value, "name"),
        place: member(value, "in"),
        required: value.get("required").and_then(Value::as_bool).unwrap_or(false),
        description: member(value, "description"),
    }
}

/// Writes a command that can be copied.
fn curl(path: &str, method: &str, value: &Value, media: Option<&(String, Value)>) -> String {
    let mut address = path.to_owned();
    for parameter in value.get("parameters").and_then(Value::as_array).into_iter().flatten() {
        if let Some(example) = parameter.get("example") {
            address = address.replace(&format!("{{{}}}", member(parameter, "name")), &text(example));
        }
    }
    let mut lines = vec![format!("curl -X {} http://127.0.0.1:7070{address}", method.to_ascii_uppercase())];
    // The first way is the one with the fewest credentials.
    let first = value.pointer("/security/0").cloned().unwrap_or_default();
    if first.get(super::API_KEY).is_some() {
        lines.push("-H \"X-API-Key: $IDTRAIL_KEY\"".to_owned());
    }
    if first.get(super::BEARER).is_some() {
        lines.push("-H \"Authorization: Bearer $IDTRAIL_TOKEN\"".to_owned());
    }
    if let Some((media_type, content)) = media {
        lines.push(format!("-H 'Content-Type: {media_type}'"));
        let examples = members(content.get("examples"));
        let named = examples.first().and_then(|(_, example)| example.get("value"));
        let example = content.get("example").or(named);
        if let Some(example) = example {
            lines.push(format!("-d '{}'", pretty(example)));
        } else if media_type.ends_with("urlencoded") {
            lines.push("-d grant_type=client_credentials -u \"$CLIENT_ID:$CLIENT_SECRET\"".to_owned());
        }
    }
    lines.join(" \\\n  ")
}

fn schema_name(content: &Value) -> Option<String> {
    let reference = content.pointer("/schema/$ref").and_then(Value::as_str)?;
    reference.rsplit('/').next().map(str::to_owned)
}

/// `TooManyRequests` becomes `Too Many Requests`.
fn words(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !text.is_empty() {
            text.push(' ');
        }
        text.push(letter);
    }
    text
}

fn members(value: Option<&Value>) -> Vec<(String, Value)> {
    let empty = Map::new();
    let object = value.and_then(Value::as_object).unwrap_or(&empty);
    object.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn member(value: &Value, name: &str) -> String {
    value.get(name).map(text).unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}
