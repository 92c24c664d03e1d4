//! `idtrail rotate`: another key in the place of one that is old, or that somebody may have seen.
//!
//! Each works on the data directory and needs the server stopped; what was written under the old key stays readable and
//! verifiable. A rotation that was cut short is finished by the same command.
//!
//! What it must never do: write a key into the output, a log or a configuration file.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use clap::{Args, Subcommand};
use data_encoding::HEXLOWER;
use idtrail_event::clear::LogKeyRotatedItem;
use idtrail_index::trail::Command;
use idtrail_log::commit::Answer;
use idtrail_port::{Privacy, random, write_atomic};
use idtrail_tlog::SignerKey;
use idtrail_vault::{ErrorKind, Kek, RetiredKey, Secret32, Vault};
use serde_json::json;
use zeroize::Zeroizing;

use super::{Context, Failure, OrExit as _, shred};
use crate::engine::origins::{self, Kind, Place};
use crate::engine::{self, Engine, EngineError};
use crate::exit::Exit;
use crate::settings::{SecretRef, Settings};

/// How long the log may take to make the leaf durable.
const PATIENCE: Duration = Duration::from_secs(30);

/// Arguments of `rotate`.
#[derive(Args, Clone, Debug)]
pub struct RotateArgs {
    /// What to replace.
    #[command(subcommand)]
    pub command: RotateCommand,
}

/// What `rotate` can replace.
#[derive(Clone, Debug, Subcommand)]
pub enum RotateCommand {
    /// The key that signs the log's trees; the log names the new one in a leaf that the old one still signs.
    LogKey(LogKeyArgs),
    /// The key-encryption key, which wraps the key of the vault.
    Kek(KekArgs),
    /// The pepper of identifiers; tokens that were made under older ones lead to the same persons as before.
    Pepper,
}

/// Arguments of `rotate log-key`.
#[derive(Args, Clone, Debug)]
pub struct LogKeyArgs {
    /// File for the policy with the old and the new key, for those who verify.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
}

/// Arguments of `rotate kek`.
#[derive(Args, Clone, Debug)]
pub struct KekArgs {
    /// File that is to hold the new key. [default: the file of the old one, which it replaces]
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
}

/// Runs `rotate`, printing to `out`.
///
/// # Errors
/// A failure with its exit code.
pub fn run(context: &Context, args: &RotateArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    match &args.command {
        RotateCommand::LogKey(args) => log_key(context, args, out),
        RotateCommand::Kek(args) => kek(context, args, out),
        RotateCommand::Pepper => pepper(context, out),
    }
}

fn log_key(context: &Context, args: &LogKeyArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let settings = context.settings()?;
    let engine = shred::open(context)?;
    let seed = Zeroizing::new(random::<32>(&*context.entropy));
    let rotated = rotate_log_key(&engine, &seed);
    engine.stop();
    let (origin, size) = rotated?;
    drop(engine);
    let vault = super::retention::look(context)?;
    let policy = policy(&settings, &vault)?;
    if let Some(path) = &args.policy {
        write_atomic(&*context.disk, path, policy.as_bytes(), Privacy::Public)?;
    }
    if context.globals.json {
        writeln!(out, "{}", json!({ "origin": origin, "treeSize": size, "policy": policy }))?;
        return Ok(Exit::Ok);
    }
    writeln!(out, "From tree size {size} on, {origin} is signed by a new key; entry {} names it.", size - 1)?;
    writeln!(out, "The old key is destroyed. Give both public keys to everybody who verifies:")?;
    match &args.policy {
        Some(path) => writeln!(out, "  {}", path.display())?,
        None => write!(out, "{policy}")?,
    }
    Ok(Exit::Ok)
}

/// Names the new key in the log, then puts it in the place of the old one; returns the log and its size then.
fn rotate_log_key(engine: &Engine, seed: &[u8; 32]) -> Result<(String, u64), Failure> {
    let origin = engine.origin().to_owned();
    let signer = SignerKey::from_seed(&origin, seed).or_exit(Exit::Config)?;
    let old = engine.verifier();
    let item = LogKeyRotatedItem { old: old.to_string(), new: signer.verifier().to_string() };
    let command = Command::log_key_rotated(&item, Some("command line".to_owned()));
    // Not through the engine's own answers, which a running server passes on.
    let (sender, answer) = sync_channel(1);
    engine.log().submit(command, Box::new(move |outcome| drop(sender.send(outcome)))).or_exit(Exit::Io)?;
    let answer = answer.recv_timeout(PATIENCE).or_exit(Exit::Io)?;
    let Answer::Appended { first, .. } = answer.or_exit(Exit::Io)? else {
        return Err(Failure::message(Exit::Io, "the log did not take the leaf that names the new key"));
    };
    let size = first.get() + 1;
    let public = old.public_bytes().try_into().or_exit(Exit::Config)?;
    let (named, retired) = (origin.clone(), RetiredKey { public, size });
    let seed = Secret32::new(*seed);
    let desk = engine.desk();
    let written = desk.write_vault(move |vault| vault.rotate_signing_key(&named, seed, retired));
    written.or_exit(Exit::Io)?.blocking_recv().or_exit(Exit::Io)?.or_exit(Exit::Io)?;
    Ok((origin, size))
}

/// Writes the policy with every key that ever signed one of the logs, and what it signed.
fn policy(settings: &Settings, vault: &Vault) -> Result<String, Failure> {
    use std::fmt::Write as _;
    let mut text = String::new();
    let newest = origins::newest(vault, &settings.origin).unwrap_or(0);
    for number in 0..=newest {
        let place = Place::new(Kind::Events, &settings.data_dir, &settings.origin, number);
        let keys = place.verifiers(vault).or_exit(Exit::Config)?;
        for (key, last) in keys {
            let what = match last {
                Some(size) => format!("signed trees up to size {size}"),
                None if number == newest => "signs now".to_owned(),
                None => "signed its last trees".to_owned(),
            };
            writeln!(text, "# {}: {what}\nlog {key}", place.origin).or_exit(Exit::Io)?;
        }
    }
    text.push_str("quorum none\n");
    Ok(text)
}

fn kek(context: &Context, args: &KekArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let settings = context.settings()?;
    let disk = &*context.disk;
    let (new_path, replaced) = match (&args.to, &settings.kek) {
        (Some(to), _) => (to.clone(), None),
        (None, SecretRef::File(path)) => (idtrail_port::append_extension(path, "new"), Some(path.clone())),
        (None, _) => {
            let message = "the key does not come from a file; say --to FILE for the new one";
            return Err(Failure::message(Exit::Usage, message));
        }
    };
    // A former run may have been cut short; then the vault may be under that key already.
    if !disk.exists(&new_path)? {
        let text = Zeroizing::new(format!(
            "{}\n",
            HEXLOWER.encode(&*Zeroizing::new(random::<32>(&*context.entropy)))
        ));
        write_atomic(disk, &new_path, text.as_bytes(), Privacy::Owner)?;
    }
    let new_key = || read(context, &new_path);
    match shred::open(context) {
        Ok(engine) => {
            let key = new_key()?;
            let written = engine.desk().write_vault(move |vault| vault.rotate_kek(key));
            let written = written.or_exit(Exit::Io).map(tokio::sync::oneshot::Receiver::blocking_recv);
            engine.stop();
            written?.or_exit(Exit::Io)?.or_exit(Exit::Io)?;
        }
        Err(failure) if is_wrong_key(&failure) => {
            let (shared, entropy) = (context.disk.clone(), context.entropy.clone());
            Vault::open(shared, entropy, engine::vault_paths(&settings), new_key()?, None)
                .or_exit(Exit::Config)?;
        }
        Err(failure) => return Err(failure),
    }
    if let Some(old) = &replaced {
        disk.rename(&new_path, old)?;
        disk.sync_dir(old.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
    }
    let path = replaced.unwrap_or(new_path);
    if context.globals.json {
        writeln!(out, "{}", json!({ "kek": path }))?;
        return Ok(Exit::Ok);
    }
    writeln!(
        out,
        "The vault is wrapped under the key in {}; the old key opens nothing any more.",
        path.display()
    )?;
    writeln!(out, "Put a copy of the new one where the copies of the old one were.")?;
    if args.to.is_some() {
        writeln!(out, "Name it in the configuration (kek) before the next start.")?;
    }
    Ok(Exit::Ok)
}

fn read(context: &Context, path: &Path) -> Result<Kek, Failure> {
    let bytes = SecretRef::File(path.to_owned()).read(&*context.disk, &context.env)?;
    Kek::from_file_bytes(&bytes).or_exit(Exit::Config)
}

fn is_wrong_key(failure: &Failure) -> bool {
    let engine = failure.error.downcast_ref::<EngineError>();
    matches!(engine, Some(EngineError::Vault(error)) if error.kind() == ErrorKind::Denied)
}

fn pepper(context: &Context, out: &mut dyn Write) -> Result<Exit, Failure> {
    let engine = shred::open(context)?;
    let written = engine.desk().write_vault(|vault| {
        vault.add_pepper()?;
        Ok(vault.pepper().0)
    });
    let written = written.or_exit(Exit::Io).map(tokio::sync::oneshot::Receiver::blocking_recv);
    engine.stop();
    let version = written?.or_exit(Exit::Io)?.or_exit(Exit::Io)?;
    if context.globals.json {
        writeln!(out, "{}", json!({ "pepperVersion": version }))?;
        return Ok(Exit::Ok);
    }
    writeln!(out, "Identifiers get their tokens under pepper {version} from the next start on.")?;
    writeln!(
        out,
        "Older tokens lead to the same persons as before; whoever makes tokens asks for new ones."
    )?;
    Ok(Exit::Ok)
}
