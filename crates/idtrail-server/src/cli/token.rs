//! `idtrail token`: makes the token of an identifier, and explains how.
//!
//! The identifier comes from standard input and never from the command line, where other users of the machine could
//! read it. `--explain` shows every step with the published example instead, so that somebody else's program can be
//! checked against it; it needs neither configuration nor secret and reads nothing.

use std::io::{Read as _, Write};

use clap::{Args, ValueEnum};
use data_encoding::HEXLOWER;
use idtrail_event::{IdentifierType, Pepper, RawIdentifier};
use serde_json::json;
use zeroize::Zeroizing;

use super::{Context, Failure, OrExit as _, init};
use crate::engine;
use crate::exit::Exit;

/// Longest identifier in bytes.
const IDENTIFIER_BYTES_MAX: u64 = 1024;

/// Arguments of `token`.
#[derive(Args, Clone, Debug)]
pub struct TokenArgs {
    /// What the identifier is. It is read from standard input, in its normal form: a telephone number as +14155552671, an
    /// address in lower case, an account number with its issuer as crm:000123456.
    #[arg(long = "type", value_enum, value_name = "TYPE", default_value = "phone")]
    pub kind: Kind,
    /// Show every step with the published example instead; nothing is read.
    #[arg(long)]
    pub explain: bool,
}

/// What an identifier is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A telephone number, E.164.
    Phone,
    /// An e-mail address.
    Email,
    /// An account number with its issuer's prefix.
    Account,
}

impl Kind {
    const fn number(self) -> IdentifierType {
        match self {
            Self::Phone => IdentifierType::PHONE,
            Self::Email => IdentifierType::EMAIL,
            Self::Account => IdentifierType::ACCOUNT,
        }
    }

    const fn example(self) -> &'static str {
        match self {
            Self::Phone => "+14155552671",
            Self::Email => "jane.doe@example.com",
            Self::Account => "crm:000123456",
        }
    }
}

/// Runs `token`, printing to `out`.
///
/// # Errors
/// A failure with its exit code; none of them holds the identifier.
pub fn run(context: &Context, args: &TokenArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    if args.explain { explain(context, args.kind, out) } else { make(context, args.kind, out) }
}

fn explain(context: &Context, kind: Kind, out: &mut dyn Write) -> Result<Exit, Failure> {
    const TENANT: &str = "tenant-a";
    let mut pepper = [0; 32];
    for (number, byte) in (0..).zip(&mut pepper) {
        *byte = number;
    }
    let (number, value) = (kind.number().number(), kind.example());
    let frame = [
        b"idtrail.id.v1\0".as_slice(),
        &(TENANT.len() as u16).to_be_bytes(),
        TENANT.as_bytes(),
        &number.to_be_bytes(),
        &(value.len() as u32).to_be_bytes(),
        value.as_bytes(),
    ]
    .concat();
    let identifier = RawIdentifier::from_normal_form(kind.number(), value.to_owned());
    let token = idtrail_event::token(&Pepper::new(pepper), TENANT, &identifier).to_string();
    let info = HEXLOWER.encode(&[b"idtrail/id-key/v1".as_slice(), &number.to_be_bytes()].concat());
    if context.globals.json {
        let steps = json!({
            "pepper": HEXLOWER.encode(&pepper), "tenant": TENANT, "type": number, "identifier": value,
            "hkdfSalt": TENANT, "hkdfInfo": info, "frame": HEXLOWER.encode(&frame), "token": token,
        });
        writeln!(out, "{steps}")?;
        return Ok(Exit::Ok);
    }
    writeln!(out, "A token is a keyed hash: without the pepper nobody can try out numbers and addresses.")?;
    writeln!(out)?;
    writeln!(out, "1  normal form   {value}")?;
    writeln!(out, "2  type          {number}")?;
    writeln!(
        out,
        "3  pepper        {}   (of this example; yours is in the vault)",
        HEXLOWER.encode(&pepper)
    )?;
    writeln!(out, "4  key           HKDF-SHA-256, 32 bytes")?;
    writeln!(out, "                 input key = pepper, salt = \"{TENANT}\" (the tenant's name)")?;
    writeln!(out, "                 info      = {info}")?;
    writeln!(out, "                             \"idtrail/id-key/v1\", type as 2 bytes")?;
    writeln!(out, "5  frame         {}", HEXLOWER.encode(&frame))?;
    writeln!(
        out,
        "                 \"idtrail.id.v1\", 00, length of the tenant as 2 bytes, tenant, type as 2 bytes,"
    )?;
    writeln!(out, "                 length of the identifier as 4 bytes, identifier; numbers big-endian")?;
    writeln!(out, "6  token         HMAC-SHA-256(key, frame), as 64 hex digits")?;
    writeln!(out, "                 {token}")?;
    Ok(Exit::Ok)
}

fn make(context: &Context, kind: Kind, out: &mut dyn Write) -> Result<Exit, Failure> {
    let settings = context.settings()?;
    let mut raw = Zeroizing::new(String::with_capacity(2048));
    std::io::stdin().lock().take(IDENTIFIER_BYTES_MAX + 1).read_to_string(&mut raw)?;
    if raw.len() as u64 > IDENTIFIER_BYTES_MAX {
        return Err(Failure::message(Exit::Usage, "the identifier on standard input is too long"));
    }
    let value = raw.trim();
    check(kind, value)?;
    let kek = init::kek(context, &settings)?;
    let (version, pepper) = engine::pepper(&init::ports(context), &settings, kek).or_exit(Exit::Io)?;
    let identifier = RawIdentifier::from_normal_form(kind.number(), value.to_owned());
    let token = idtrail_event::token(&Pepper::new(*pepper.expose()), &settings.tenant, &identifier);
    if context.globals.json {
        writeln!(out, "{}", json!({ "token": token.to_string(), "pepperVersion": version }))?;
    } else {
        writeln!(out, "{token}")?;
    }
    Ok(Exit::Ok)
}

/// Refuses what is plainly not in its normal form: its token would be found by nobody.
fn check(kind: Kind, value: &str) -> Result<(), Failure> {
    let (good, rule) = match kind {
        Kind::Phone => (
            value.strip_prefix('+').is_some_and(|digits| {
                (7..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
            }),
            "a telephone number must be + and 7 to 15 digits",
        ),
        Kind::Email => (
            value.split_once('@').is_some_and(|(local, domain)| !local.is_empty() && domain.contains('.'))
                && !value.chars().any(|c| c.is_whitespace() || c.is_uppercase()),
            "an address must have the form local@domain, in lower case",
        ),
        Kind::Account => (
            value.split_once(':').is_some_and(|(issuer, number)| !issuer.is_empty() && !number.is_empty())
                && !value.chars().any(char::is_whitespace),
            "an account number must have its issuer in front, as crm:000123456",
        ),
    };
    if good { Ok(()) } else { Err(Failure::message(Exit::Usage, rule)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Globals;
    use crate::cli::tests::context;

    #[test]
    fn explanation_ends_with_the_published_tokens() {
        let published: serde_json::Value =
            serde_json::from_str(include_str!("../../../../vectors/event/tokens.json")).unwrap();
        let cases = [(Kind::Phone, 0), (Kind::Email, 1), (Kind::Account, 2)];
        for (kind, number) in cases {
            let mut text = Vec::new();
            let args = TokenArgs { kind, explain: true };
            run(&context(Globals::default()), &args, &mut text).unwrap();
            let text = String::from_utf8(text).unwrap();
            assert!(text.trim_end().ends_with(published[number]["token"].as_str().unwrap()), "{text}");
            assert!(text.contains(published[number]["value"].as_str().unwrap()));
        }
    }

    #[test]
    fn what_is_not_in_normal_form_is_refused_without_being_shown() {
        for (kind, value) in [
            (Kind::Phone, "0207 946 0958"),
            (Kind::Phone, "+44 20 7946 0958"),
            (Kind::Phone, ""),
            (Kind::Email, "Jane@Example.com"),
            (Kind::Email, "jane"),
            (Kind::Account, "7731990042"),
        ] {
            let failure = check(kind, value).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            assert!(value.is_empty() || !failure.error.to_string().contains(value));
        }
        assert!(check(Kind::Email, Kind::Email.example()).is_ok());
    }
}
