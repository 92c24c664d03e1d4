//! `idtrail key`: makes, lists and revokes API keys and the credentials of persons.
//!
//! Works on the file in the data directory, with or without a running server; a running server sees the change within
//! a second or two. The secret of a new credential is printed once, alone on its line, and is not stored anywhere.

use std::io::Write;

use clap::{Args, Subcommand};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Context, Failure};
use crate::credentials::{CredentialStore, NewKey, NewPerson, Role, RoleSet};
use crate::exit::Exit;

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// Arguments of `key`.
#[derive(Args, Clone, Debug)]
pub struct KeyArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// What `key` can do.
#[derive(Clone, Debug, Subcommand)]
pub enum KeyCommand {
    /// Make an API key for a calling system, or a client id and secret for a person.
    Create(CreateArgs),
    /// List all credentials, without their secrets.
    List,
    /// Give an API key a successor; the old one counts for some days more, so that nothing has to change at once.
    Rotate(RotateArgs),
    /// Revoke a credential for ever.
    Revoke(RevokeArgs),
}

/// Arguments of `key rotate`.
#[derive(Args, Clone, Debug)]
pub struct RotateArgs {
    /// Id of the key, as `key list` shows it.
    pub id: String,
    /// Days for which the old key still counts.
    #[arg(long, value_name = "DAYS", default_value_t = 7, value_parser = clap::value_parser!(u16).range(0..=90))]
    pub overlap_days: u16,
    /// Days after which the new key is refused [default: as long as the old one was made for]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub days: Option<u16>,
}

/// Arguments of `key create`.
#[derive(Args, Clone, Debug)]
pub struct CreateArgs {
    /// Name of the calling system, which stands in its events, or of the person.
    #[arg(long)]
    pub name: String,
    /// What the credential may do; can be given several times: ingest, resolve, operator, dpo, auditor, mirror,
    /// admin, witness.
    #[arg(long = "role", value_name = "ROLE", required = true)]
    pub roles: Vec<Role>,
    /// Make a credential for a person instead of an API key.
    #[arg(long)]
    pub person: bool,
    /// Environment that stands in the API key, such as live or test.
    #[arg(long, default_value = "live", conflicts_with = "person")]
    pub env: String,
    /// Time from which on the credential is refused, such as 2027-01-01T00:00:00Z.
    #[arg(long, value_name = "TIME", conflicts_with = "days")]
    pub expires: Option<Timestamp>,
    /// Days after which the credential is refused.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub days: Option<u16>,
}

/// Arguments of `key revoke`.
#[derive(Args, Clone, Debug)]
pub struct RevokeArgs {
    /// Id of the credential, as `key list` shows it.
    pub id: String,
}

/// Runs `key`, printing to `out`.
///
/// # Errors
/// A failure with its exit code.
pub fn run(context: &Context, args: &KeyArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let settings = context.settings()?;
    let store = CredentialStore::open(context.disk.clone(), &settings.data_dir)?;
    let now_ms = context.clock.wall_ms();
    match &args.command {
        KeyCommand::Create(create) => self::create(context, &store, create, now_ms, out)?,
        KeyCommand::Rotate(rotate) => self::rotate(context, &store, rotate, now_ms, out)?,
        KeyCommand::List => list(context, &store, now_ms, out)?,
        KeyCommand::Revoke(revoke) => {
            store.revoke(&revoke.id, now_ms)?;
            if context.globals.json {
                writeln!(out, "{}", json!({ "id": revoke.id, "state": "revoked" }))?;
            } else {
                writeln!(out, "revoked {}", revoke.id)?;
            }
        }
    }
    Ok(Exit::Ok)
}

fn create(
    context: &Context,
    store: &CredentialStore,
    args: &CreateArgs,
    now_ms: i64,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let roles: RoleSet = args.roles.iter().copied().collect();
    let by_days = args.days.map(|days| now_ms.saturating_add(i64::from(days) * DAY_MS));
    let expires_ms = args.expires.map(Timestamp::as_millisecond).or(by_days);
    let entropy = &*context.entropy;
    let created = if args.person {
        store.create_person(entropy, now_ms, NewPerson { name: args.name.clone(), roles, expires_ms })?
    } else {
        let new = NewKey { env: args.env.clone(), name: args.name.clone(), roles, expires_ms };
        store.create_key(entropy, now_ms, new)?
    };
    let (id_name, secret_name) = if args.person { ("clientId", "clientSecret") } else { ("id", "apiKey") };
    if context.globals.json {
        let mut object = json!({
            "kind": if args.person { "person" } else { "key" },
            "name": args.name,
            "roles": Vec::<String>::from(roles),
            "expires": expires_ms.map(time),
        });
        if let Value::Object(members) = &mut object {
            members.insert(id_name.to_owned(), json!(created.id));
            members.insert(secret_name.to_owned(), json!(*created.secret));
        }
        writeln!(out, "{object}")?;
    } else {
        writeln!(out, "id      {}", created.id)?;
        writeln!(out, "name    {}", args.name)?;
        writeln!(out, "roles   {roles}")?;
        writeln!(out, "expires {}", expires_ms.map_or_else(|| "never".to_owned(), time))?;
        writeln!(out, "\n{}\n", *created.secret)?;
        writeln!(out, "Keep this secret now: it is shown once and cannot be shown again.")?;
    }
    Ok(())
}

fn rotate(
    context: &Context,
    store: &CredentialStore,
    args: &RotateArgs,
    now_ms: i64,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let old_until_ms = now_ms.saturating_add(i64::from(args.overlap_days) * DAY_MS);
    let expires_ms = args.days.map(|days| now_ms.saturating_add(i64::from(days) * DAY_MS));
    let created = store.rotate_key(&*context.entropy, now_ms, &args.id, old_until_ms, expires_ms)?;
    let keys = store.keys();
    let expires = |id: &str| keys.iter().find(|key| key.id == id).and_then(|key| key.expires_ms).map(time);
    if context.globals.json {
        let object = json!({
            "kind": "key",
            "id": created.id,
            "apiKey": *created.secret,
            "expires": expires(&created.id),
            "replaces": { "id": args.id, "expires": expires(&args.id) },
        });
        writeln!(out, "{object}")?;
    } else {
        writeln!(out, "id       {}", created.id)?;
        writeln!(out, "expires  {}", expires(&created.id).unwrap_or_else(|| "never".to_owned()))?;
        writeln!(out, "replaces {}, which counts until {}", args.id, expires(&args.id).unwrap_or_default())?;
        writeln!(out, "\n{}\n", *created.secret)?;
        writeln!(out, "Keep this secret now: it is shown once and cannot be shown again.")?;
    }
    Ok(())
}

/// One credential as it is listed.
struct Row {
    kind: &'static str,
    id: String,
    name: String,
    env: Option<String>,
    roles: RoleSet,
    created_ms: i64,
    expires_ms: Option<i64>,
    state: &'static str,
}

fn rows(store: &CredentialStore, now_ms: i64) -> Vec<Row> {
    let state = |revoked: Option<i64>, live: bool| match (revoked, live) {
        (Some(_), _) => "revoked",
        (None, true) => "live",
        (None, false) => "expired",
    };
    let keys = store.keys().into_iter().map(|key| Row {
        kind: "key",
        state: state(key.revoked_ms, key.is_live(now_ms)),
        id: key.id,
        name: key.name,
        env: Some(key.env),
        roles: key.roles,
        created_ms: key.created_ms,
        expires_ms: key.expires_ms,
    });
    let persons = store.persons().into_iter().map(|person| Row {
        kind: "person",
        state: state(person.revoked_ms, person.is_live(now_ms)),
        id: person.id,
        name: person.name,
        env: None,
        roles: person.roles,
        created_ms: person.created_ms,
        expires_ms: person.expires_ms,
    });
    keys.chain(persons).collect()
}

fn list(context: &Context, store: &CredentialStore, now_ms: i64, out: &mut dyn Write) -> Result<(), Failure> {
    let rows = rows(store, now_ms);
    if context.globals.json {
        let all: Vec<Value> = rows.iter().map(row_json).collect();
        writeln!(out, "{}", Value::Array(all))?;
        return Ok(());
    }
    if rows.is_empty() {
        writeln!(out, "There are no credentials. `idtrail key create` makes one.")?;
        return Ok(());
    }
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_header(["KIND", "ID", "NAME", "ENV", "ROLES", "CREATED", "EXPIRES", "STATE"]);
    for row in rows {
        table.add_row([
            row.kind.to_owned(),
            row.id,
            row.name,
            row.env.unwrap_or_else(|| "-".to_owned()),
            row.roles.to_string(),
            time(row.created_ms),
            row.expires_ms.map_or_else(|| "never".to_owned(), time),
            row.state.to_owned(),
        ]);
    }
    writeln!(out, "{}", table.trim_fmt())?;
    Ok(())
}

fn row_json(row: &Row) -> Value {
    json!({
        "kind": row.kind,
        "id": row.id,
        "name": row.name,
        "env": row.env,
        "roles": Vec::<String>::from(row.roles),
        "created": time(row.created_ms),
        "expires": row.expires_ms.map(time),
        "state": row.state,
    })
}

/// Writes milliseconds since 1970 as RFC 3339 with whole seconds; as the number if they are out of its range.
fn time(ms: i64) -> String {
    Timestamp::from_second(ms.div_euclid(1000)).map_or_else(|_| ms.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use idtrail_port::os::OsDisk;
    use idtrail_port::{Privacy, write_atomic};

    use super::*;
    use crate::cli::tests::context;
    use crate::cli::{Cli, Command};

    fn idtrail(dir: &std::path::Path, line: &str) -> Result<String, Failure> {
        let config = dir.join("idtrail.toml");
        let text = "origin = \"o\"\ndata_dir = \".\"\nkek = { env = \"KEK\" }\n";
        write_atomic(&OsDisk, &config, text.as_bytes(), Privacy::Owner).unwrap();
        let arguments = ["idtrail", "--config", config.to_str().unwrap(), "key"];
        let cli = Cli::try_parse_from(arguments.into_iter().chain(line.split(' ')))
            .map_err(|error| Failure::new(Exit::Usage, error))?;
        let Command::Key(args) = cli.command else { panic!("not key") };
        let mut out = Vec::new();
        run(&context(cli.globals), &args, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn credential_is_made_listed_and_revoked() {
        let dir = tempfile::tempdir().unwrap();
        let made =
            idtrail(dir.path(), "create --name crm --role ingest --role resolve --days 30 --json").unwrap();
        let made: Value = serde_json::from_str(&made).unwrap();
        assert_eq!(made["roles"], json!(["ingest", "resolve"]));
        assert!(made["apiKey"].as_str().unwrap().starts_with("idt_live_"));
        let text = idtrail(dir.path(), "create --person --name Zoe --role dpo").unwrap();
        let secret = text.lines().find(|line| line.starts_with("ids_")).unwrap();

        let listed = idtrail(dir.path(), "list").unwrap();
        assert!(listed.contains("crm") && listed.contains("person_") && !listed.contains(secret), "{listed}");
        assert!(!listed.contains(made["apiKey"].as_str().unwrap()));

        idtrail(dir.path(), &format!("revoke {}", made["id"].as_str().unwrap())).unwrap();
        let listed: Value = serde_json::from_str(&idtrail(dir.path(), "list --json").unwrap()).unwrap();
        let states: Vec<_> =
            listed.as_array().unwrap().iter().map(|row| row["state"].as_str().unwrap()).collect();
        assert_eq!(states, ["revoked", "live"]);
    }

    #[test]
    fn a_key_is_rotated_without_a_gap() {
        let dir = tempfile::tempdir().unwrap();
        let json = |line: &str| serde_json::from_str::<Value>(&idtrail(dir.path(), line).unwrap()).unwrap();
        let old = json("create --name crm --role ingest --days 30 --json");
        let id = old["id"].as_str().unwrap();
        let new = json(&format!("rotate {id} --overlap-days 3 --json"));
        assert_ne!(new["apiKey"], old["apiKey"]);
        let listed = json("list --json");
        let rows = listed.as_array().unwrap();
        assert_eq!((&rows[0]["state"], &rows[1]["state"]), (&json!("live"), &json!("live")));
        assert_eq!((&rows[1]["name"], &rows[1]["roles"]), (&json!("crm"), &json!(["ingest"])));
        assert!(rows[0]["expires"].as_str() < rows[1]["expires"].as_str(), "{listed}");
        // The old one is on its way out, so a third at the same time is one too many.
        let again = idtrail(dir.path(), &format!("rotate {id}")).unwrap_err();
        assert_eq!(again.exit, Exit::Usage);
        idtrail(dir.path(), &format!("revoke {id}")).unwrap();
        assert_eq!(idtrail(dir.path(), &format!("rotate {id}")).unwrap_err().exit, Exit::Usage);
        let second =
            json(&format!("rotate {} --overlap-days 0 --days 5 --json", new["id"].as_str().unwrap()));
        let states: Vec<Value> =
            json("list --json").as_array().unwrap().iter().map(|row| row["state"].clone()).collect();
        assert_eq!(states, ["revoked", "expired", "live"]);
        assert!(second["expires"].is_string());
    }

    #[test]
    fn wrong_wishes_end_with_usage() {
        let dir = tempfile::tempdir().unwrap();
        let lines = [
            "create --name crm",
            "create --name crm --role root",
            "create --name crm --role ingest --days 0",
            "create --name crm --role ingest --expires 2020-01-01T00:00:00Z",
            "create --name crm --role ingest --expires tomorrow",
            "create --name crm --role ingest --env LIVE",
            "revoke nobody",
            "revoke",
        ];
        for line in lines {
            assert_eq!(idtrail(dir.path(), line).unwrap_err().exit, Exit::Usage, "{line}");
        }
    }
}
