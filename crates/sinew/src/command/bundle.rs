//! `sinew bundle`.

use std::path::{Path, PathBuf};

use serde_json::json;
use sinew_spec::application::Application;
use sinew_spec::bundle::{BundledImage, Manifest};
use sinew_spec::compose::lock::{Lock, Locked};

use super::{Context, current_folder};
use crate::arguments::Files;
use crate::bundle::load;
use crate::bundle::read::{self, BundleError, Checked, Signed};
use crate::bundle::save::{self, Images, SaveError};
use crate::bundle::sign::{self, KeyError, SigningKey, VerifyingKey};
use crate::failure::{Failure, from_here};
use crate::images;
use crate::terminal::Paint;
use crate::time::rfc3339_seconds;
use crate::units::{bytes, count, now_unix_ms};
use crate::versions::engine::EngineStore;
use crate::versions::pin::{self, Pinned};

/// Put an application into one file, for places without a network
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    sinew bundle save shop.bundle              this folder's application with its images\n  \
    sinew bundle check shop.bundle             is every byte of it as it was?\n  \
    sinew bundle load shop.bundle /srv/shop    there; then `sinew up -d /srv/shop`\n  \
    sinew bundle key release.pem               a pair of keys\n  \
    sinew bundle save shop.bundle --sign release.pem\n  \
    sinew bundle load shop.bundle /srv/shop --verify release.pem.pub")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Save(Save),
    Load(Load),
    Check(Check),
    Key(Key),
}

/// Write an application's files and images into one file
#[derive(Debug, clap::Args)]
#[command(
    after_help = "In it: the compose files, `.env` and `env_file`s, configs, read-only bind mounts of the project \
    folder, every image by its digest, sinew.lock, and a SHA-256 of each. Not in it: the values of secrets, what services \
    write, files outside of the project folder; what is left out is told."
)]
struct Save {
    /// The file to write; it must not exist
    #[arg(value_name = "BUNDLE", value_hint = clap::ValueHint::FilePath)]
    bundle: PathBuf,
    /// A compose file, or a folder with one [default: this folder or one above it]
    #[arg(value_name = "FILE|DIR", value_hint = clap::ValueHint::AnyPath)]
    place: Option<PathBuf>,
    #[command(flatten)]
    files: Files,
    /// Sign it with this private key (Ed25519, PEM)
    #[arg(long, value_name = "KEY", value_hint = clap::ValueHint::FilePath)]
    sign: Option<PathBuf>,
    /// Put the files of secrets into it too
    #[arg(long)]
    with_secrets: bool,
    /// Put this file or folder of the project folder into it too; may be repeated
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    include: Vec<PathBuf>,
    /// Fail rather than add to sinew.lock
    #[arg(long)]
    locked: bool,
}

/// Verify a bundle, then unpack its files and load its images
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Nothing is unpacked before every byte was verified, and nothing is left when a step fails."
)]
struct Load {
    #[arg(value_name = "BUNDLE", value_hint = clap::ValueHint::FilePath)]
    bundle: PathBuf,
    /// The folder to make [default: one here with the application's name]
    #[arg(value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    folder: Option<PathBuf>,
    /// It must be signed with this key (its public half, PEM)
    #[arg(long, value_name = "KEY", value_hint = clap::ValueHint::FilePath)]
    verify: Option<PathBuf>,
}

/// Verify a bundle and show what is in it
#[derive(Debug, clap::Args)]
struct Check {
    #[arg(value_name = "BUNDLE", value_hint = clap::ValueHint::FilePath)]
    bundle: PathBuf,
    /// It must be signed with this key (its public half, PEM)
    #[arg(long, value_name = "KEY", value_hint = clap::ValueHint::FilePath)]
    verify: Option<PathBuf>,
}

/// Make a pair of keys to sign and verify bundles
#[derive(Debug, clap::Args)]
struct Key {
    /// The private key; the public one gets `.pub` behind its name. Neither must exist
    #[arg(value_name = "KEY", value_hint = clap::ValueHint::FilePath)]
    path: PathBuf,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    match &arguments.command {
        Command::Save(arguments) => save(arguments, context),
        Command::Load(arguments) => load(arguments, context),
        Command::Check(arguments) => check(arguments, context),
        Command::Key(arguments) => key(arguments, context),
    }
}

fn save(arguments: &Save, context: &Context) -> Result<(), Failure> {
    let key = arguments.sign.as_deref().map(SigningKey::read).transpose()?;
    let project = context.project(arguments.place.as_deref(), &arguments.files)?;
    let loaded = context.load(arguments.place.as_deref(), &arguments.files)?;
    context.warn(&loaded.warnings);
    let application = loaded.application;
    let folder = current_folder()?;
    let included: Vec<PathBuf> = arguments.include.iter().map(|path| folder.join(path)).collect();
    let files = save::files(&application, arguments.with_secrets, &included)?;
    let now = now_unix_ms();
    // Without containers no engine is needed.
    let has_containers = application.services.values().any(|service| service.container.is_some());
    let store = if has_containers { Some(EngineStore::find(&context.terminal)?) } else { None };
    let pinned = match &store {
        Some(store) => {
            images::build(&application, &store.engine, false, &context.terminal)?;
            pin::pin(&application, store, arguments.locked, now)?
        }
        None => Pinned::default(),
    };
    tell(context, &pinned.news);
    tell(context, &programs(&application));
    let images = bundled(&application, &pinned, &rfc3339_seconds(now));
    let store = store.as_ref().map(|store| store as &dyn crate::versions::store::Store);
    let manifest = save::save(
        &arguments.bundle,
        &save::What { application: &application, compose: &project.files, files: &files, images: &images },
        store,
        key.as_ref(),
        rfc3339_seconds(now),
    )?;
    let signed = match &key {
        Some(key) => Some(key.id()?),
        None => None,
    };
    if context.terminal.is_json() {
        return context.terminal.print_json(&json!({ "manifest": manifest, "signed_by": signed }));
    }
    let size = std::fs::metadata(&arguments.bundle).map(|file| file.len()).unwrap_or_default();
    let signature = signed.map(|id| format!(", signed with key {}", id.short())).unwrap_or_default();
    let mut out = format!("{}: {}{signature}\n", arguments.bundle.display(), bytes(size));
    out.push_str(&contents(&manifest));
    context.terminal.print(&out)
}

/// Services that run programs of the host need more than what is known of them.
fn programs(application: &Application) -> Vec<String> {
    let processes: Vec<&str> = application
        .services
        .iter()
        .filter(|(_, service)| service.container.is_none())
        .map(|(name, _)| name.as_str())
        .collect();
    if processes.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "{}: run as processes; their programs are not in the bundle: `--include PATH` puts files of the project folder into it",
        processes.join(", ")
    )]
}

/// Every image with all its names, and the lock that says so on the other side.
fn bundled(application: &Application, pinned: &Pinned, resolved: &str) -> Images {
    let mut lock = Lock::default();
    let mut images: Vec<BundledImage> = Vec::new();
    for (name, version) in &pinned.versions {
        let Some(container) = application.services.get(name).and_then(|service| service.container.as_ref())
        else {
            continue;
        };
        let key = pin::wanted(container).key();
        let known = pinned.lock.get(&key).cloned();
        let entry = known.unwrap_or_else(|| Locked {
            id: version.id.clone(),
            digest: version.digest.clone(),
            resolved: resolved.to_owned(),
        });
        lock.insert(key.clone(), entry);
        match images.iter_mut().find(|image| image.id == version.id) {
            Some(image) if image.references.contains(&key.reference) => {}
            Some(image) => image.references.push(key.reference),
            None => images.push(BundledImage {
                references: vec![key.reference],
                platform: key.platform,
                id: version.id.clone(),
                digest: version.digest.clone(),
            }),
        }
    }
    images.sort_by(|a, b| a.id.cmp(&b.id));
    Images { images, lock }
}

fn load(arguments: &Load, context: &Context) -> Result<(), Failure> {
    let checked = verified(&arguments.bundle, arguments.verify.as_deref())?;
    let manifest = &checked.manifest;
    let folder = arguments.folder.clone().unwrap_or_else(|| manifest.application.as_str().into());
    let folder = current_folder()?.join(folder);
    let store = if manifest.images.is_empty() { None } else { Some(EngineStore::find(&context.terminal)?) };
    let store = store.as_ref().map(|store| store as &dyn crate::versions::store::Store);
    let loaded = load::load(&checked, &folder, store).map_err(|error| {
        Failure::failed("bundle", error.to_string()).hint("nothing of the bundle was kept")
    })?;
    if context.terminal.is_json() {
        return context.terminal.print_json(&json!({
            "folder": folder,
            "images_new": loaded.images_new,
            "images_there": loaded.images_there,
            "manifest": manifest,
        }));
    }
    tell(context, &unverified(&checked));
    let shown = from_here(&folder);
    let mut out = format!(
        "{}: {}, {} ({} new)\n",
        shown.display(),
        count(manifest.members.len() - manifest.images.len(), "file"),
        count(manifest.images.len(), "image"),
        loaded.images_new
    );
    out.push_str(&left_out(manifest));
    let files: Vec<String> =
        manifest.compose.iter().map(|file| format!(" -f {}", shown.join(file).display())).collect();
    let usual = manifest.compose == ["compose.yaml"];
    let start = if usual { format!(" {}", shown.display()) } else { files.concat() };
    out.push_str(&format!("start it: sinew up -d{start}\n"));
    context.terminal.print(&out)
}

fn check(arguments: &Check, context: &Context) -> Result<(), Failure> {
    let checked = verified(&arguments.bundle, arguments.verify.as_deref())?;
    if context.terminal.is_json() {
        let signed = match checked.signed {
            Signed::No => "no",
            Signed::Unchecked => "unchecked",
            Signed::ByKey => "by_key",
        };
        return context.terminal.print_json(&json!({ "manifest": checked.manifest, "signed": signed }));
    }
    tell(context, &unverified(&checked));
    let manifest = &checked.manifest;
    let mut out = format!(
        "{} is whole: {} of {}\n",
        arguments.bundle.display(),
        manifest.application,
        manifest.created
    );
    out.push_str(&contents(manifest));
    context.terminal.print(&out)
}

fn verified(bundle: &Path, key: Option<&Path>) -> Result<Checked, Failure> {
    let key = key.map(VerifyingKey::read).transpose()?;
    read::verify(bundle, key.as_ref()).map_err(|error| {
        let failure = Failure::failed("bundle", format!("{}: {error}", bundle.display()));
        match error {
            BundleError::Io(_) => failure,
            BundleError::Unsigned | BundleError::Signature(_) => {
                failure.hint("nothing of it was used; get it again from whom you trust, or their key")
            }
            _ => failure.hint("nothing of it was used; copy it again"),
        }
    })
}

fn unverified(checked: &Checked) -> Vec<String> {
    match checked.signed {
        Signed::Unchecked => {
            vec!["it is signed, but no key was given to check that: --verify KEY".to_owned()]
        }
        Signed::No | Signed::ByKey => Vec::new(),
    }
}

fn key(arguments: &Key, context: &Context) -> Result<(), Failure> {
    let (public, id) = sign::generate(&arguments.path)?;
    if context.terminal.is_json() {
        let value = json!({ "private": arguments.path, "public": public, "id": id });
        return context.terminal.print_json(&value);
    }
    context.terminal.print(&format!(
        "{}: signs; keep it secret\n{}: verifies; give it to whoever loads bundles\nkey {}\n",
        arguments.path.display(),
        public.display(),
        id.short()
    ))
}

fn contents(manifest: &Manifest) -> String {
    let files = manifest.members.len() - manifest.images.len();
    let mut out = format!("  {}\n", count(files, "file"));
    for image in &manifest.images {
        let shown = image.digest.as_ref().unwrap_or(&image.id).short();
        out.push_str(&format!("  image {shown}  {}\n", image.references.join(", ")));
    }
    out.push_str(&left_out(manifest));
    out
}

fn left_out(manifest: &Manifest) -> String {
    manifest.left_out.iter().map(|path| format!("  not in it: {path}\n")).collect()
}

fn tell(context: &Context, lines: &[String]) {
    for line in lines.iter().filter(|_| !context.terminal.is_json()) {
        eprintln!("{} {line}", context.terminal.paint_error(Paint::Warn, "note:"));
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Unavailable | KeyError::Write { .. } => Self::failed("key", error.to_string()),
            _ => Self::bad_input("key", error.to_string()).hint("`sinew bundle key KEY` makes a pair"),
        }
    }
}

impl From<SaveError> for Failure {
    fn from(error: SaveError) -> Self {
        match error {
            SaveError::Engine(_) | SaveError::Write { .. } => Self::failed("bundle", error.to_string()),
            _ => Self::bad_input("bundle", error.to_string()),
        }
    }
}
