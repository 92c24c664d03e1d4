//! `idtrail init`: a new installation in one directory.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use idtrail_port::{Privacy, create_dir_durable, write_atomic};
use idtrail_tlog::Policy;
use idtrail_vault::Kek;
use zeroize::Zeroizing;

use super::{Context, Failure, InitArgs, OrExit as _};
use crate::engine::{self, Ports};
use crate::exit::Exit;
use crate::settings::Settings;

/// The files of a new installation.
#[derive(Debug)]
pub struct Installation {
    /// The configuration file.
    pub config: PathBuf,
    /// The policy file for verifiers.
    pub policy: PathBuf,
    /// The log's name.
    pub origin: String,
}

/// Makes an installation and says where everything is.
///
/// # Errors
/// A failure with its exit code; nothing that exists is overwritten.
pub fn run(context: &Context, args: &InitArgs) -> Result<Exit, Failure> {
    let made = create(context, args, "")?;
    let mut out = std::io::stdout().lock();
    if context.globals.json {
        let json = serde_json::json!({ "config": made.config, "policy": made.policy, "origin": made.origin });
        writeln!(out, "{json}")?;
        return Ok(Exit::Ok);
    }
    let (config, policy) = (made.config.display(), made.policy.display());
    writeln!(out, "Made the log {}.", made.origin)?;
    writeln!(out, "  configuration   {config}")?;
    writeln!(out, "  policy          {policy}   (give it to everybody who is to verify; it is public)")?;
    writeln!(
        out,
        "  key             {}   (keep it apart from the data and its backups)",
        args.dir.join("kek.key").display()
    )?;
    writeln!(out)?;
    writeln!(out, "Next:")?;
    writeln!(out, "  idtrail key create --config {config} --name crm --role ingest")?;
    writeln!(out, "  idtrail serve --config {config}")?;
    Ok(Exit::Ok)
}

/// Makes an installation. `extra` is added to the configuration file.
///
/// # Errors
/// A failure with its exit code.
pub fn create(context: &Context, args: &InitArgs, extra: &str) -> Result<Installation, Failure> {
    let disk = &*context.disk;
    let taken = disk.exists(&args.dir)? && !disk.list(&args.dir)?.is_empty();
    if taken {
        let message = format!("{} is not empty; choose another --dir", args.dir.display());
        return Err(Failure::message(Exit::Usage, message));
    }
    let origin = args.origin.clone().unwrap_or_else(|| {
        format!("localhost/idtrail/{}", HEXLOWER.encode(&idtrail_port::random::<4>(&*context.entropy)))
    });
    let text = format!(
        "# Configuration of idtrail. Relative paths start at this file's directory.\ntenant = {tenant}\norigin = {origin}\n\
         data_dir = \"data\"\nkek = {{ file = \"kek.key\" }}\n{extra}\n\
         [vault]\n# Name at least two, on different devices, none of them in a backup or snapshot.\nanchors = [\"anchor/cell\"]\n",
        tenant = toml_text(&args.tenant),
        origin = toml_text(&origin),
    );
    // Checked before anything is made, so that a wrong name leaves nothing behind.
    let settings = Settings::parse(&text, &args.dir)?;
    create_dir_durable(disk, &args.dir)?;
    let key = Zeroizing::new(idtrail_port::random::<32>(&*context.entropy));
    let key_text = Zeroizing::new(format!("{}\n", HEXLOWER.encode(&*key)));
    write_atomic(disk, &args.dir.join("kek.key"), key_text.as_bytes(), Privacy::Owner)?;
    let kek = Kek::new(*key).or_exit(Exit::Config)?;
    let verifier = engine::create(&ports(context), &settings, kek).or_exit(Exit::Io)?;
    let policy = args.dir.join("policy.txt");
    write_atomic(disk, &policy, Policy::log_only(verifier).to_string().as_bytes(), Privacy::Public)?;
    // Last, because its presence says that the installation is whole.
    let config = args.dir.join("idtrail.toml");
    write_atomic(disk, &config, text.as_bytes(), Privacy::Public)?;
    Ok(Installation { config, policy, origin })
}

/// Returns the ports of a command.
pub fn ports(context: &Context) -> Ports {
    Ports { disk: context.disk.clone(), clock: context.clock.clone(), entropy: context.entropy.clone() }
}

/// Reads the key-encryption key that the settings point to.
///
/// # Errors
/// A failure with exit code 6.
pub fn kek(context: &Context, settings: &Settings) -> Result<Kek, Failure> {
    let bytes = settings.kek.read(&*context.disk, &context.env)?;
    Kek::from_file_bytes(&bytes).or_exit(Exit::Config)
}

/// Reads a policy file.
///
/// # Errors
/// A failure with exit code 4: without a policy nothing can be said.
pub fn policy(context: &Context, path: &Path) -> Result<Policy, Failure> {
    let bytes = idtrail_port::read_whole(&*context.disk, path, 1 << 20).or_exit(Exit::NotChecked)?;
    let text = String::from_utf8(bytes).or_exit(Exit::NotChecked)?;
    Policy::parse(&text).or_exit(Exit::NotChecked)
}

fn toml_text(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
