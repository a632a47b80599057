//! `sexton token`.

use serde_json::{Map, Value, json};

use super::args::{TokenAction, TokenCreate, TokenSet, TokenSetting};
use super::output::{Exit, Failure, Outcome, json, line, lost, note, text, when};
use super::schedules::encode;
use super::session::Session;
use super::system::show_list;

pub(super) async fn tokens(session: &Session, action: Option<TokenAction>) -> Outcome {
    match action {
        None | Some(TokenAction::List) => {
            let list = session.reader().await?.get("/api/v1/tokens").await?;
            show(session, &list)
        }
        Some(TokenAction::Create(new)) => create(session, &new).await,
        Some(TokenAction::Set(set)) => {
            let change = change(session, &set)?;
            let path = format!("/api/v1/tokens/{}", encode(&set.name));
            let token = session.daemon().await?.patch(&path, &change).await?;
            show_one(session, &token)
        }
        Some(TokenAction::Revoke { name }) => {
            let path = format!("/api/v1/tokens/{}/revoke", encode(&name));
            let token = session.daemon().await?.post(&path, &json!({})).await?;
            show_one(session, &token)
        }
    }
}

/// The secret alone goes to stdout, so that it can go into a file without passing a screen.
async fn create(session: &Session, new: &TokenCreate) -> Outcome {
    let expires_at = new.expires.as_deref().map(|text| session.ahead(text)).transpose()?;
    let body =
        json!({ "name": new.name, "role": new.role, "rate": new.rate, "expires_at": expires_at });
    let made = session.daemon().await?.post("/api/v1/tokens", &body).await?;
    if session.json {
        json(&made);
    } else {
        note(format!(
            "the secret of the token `{}` follows; it cannot be shown again",
            text(&made, "name")
        ));
        line(text(&made, "secret"));
    }
    match lost() {
        None => Ok(Exit::Ok),
        Some(Failure { exit, message }) => {
            let name = text(&made, "name");
            let message = format!(
                "the secret of the token `{name}` is lost, revoke it (`sexton token revoke {name}`): {message}"
            );
            Err(Failure::new(exit, message))
        }
    }
}

/// The body that asks for a change, with null for what is taken away.
fn change(session: &Session, set: &TokenSet) -> Result<Value, Failure> {
    let expires_at = set.expires.as_deref().map(|text| session.ahead(text)).transpose()?;
    let given = [
        ("rate", "rate", TokenSetting::Rate, set.rate.map(|rate| json!(rate))),
        ("expires", "expires_at", TokenSetting::Expires, expires_at.map(|at| json!(at))),
    ];
    let mut body = Map::new();
    if let Some(role) = set.role {
        body.insert("role".to_owned(), json!(role));
    }
    for (option, field, setting, value) in given {
        let is_unset = set.unset.contains(&setting);
        if is_unset && value.is_some() {
            let message = format!("--{option} and --unset {option} contradict each other");
            return Err(Failure::new(Exit::Usage, message));
        }
        if let Some(value) = value.or_else(|| is_unset.then_some(Value::Null)) {
            body.insert(field.to_owned(), value);
        }
    }
    Ok(Value::Object(body))
}

fn show_one(session: &Session, token: &Value) -> Outcome {
    if session.json {
        json(token);
        return Ok(Exit::Ok);
    }
    show(session, &json!({ "items": [token], "next_cursor": null }))
}

fn show(session: &Session, list: &Value) -> Outcome {
    let now = session.now();
    let row = |row: &Value| {
        let at = |field: &str| when(row.get(field).and_then(Value::as_str), now);
        vec![
            text(row, "name"),
            text(row, "role"),
            text(row, "state"),
            text(row, "rate"),
            at("expires_at"),
            at("last_used_at"),
            text(row, "created_by"),
        ]
    };
    let headers = ["TOKEN", "ROLE", "STATE", "RATE", "EXPIRES", "LAST USED", "CREATED BY"];
    show_list(session, list, &headers, row)
}
