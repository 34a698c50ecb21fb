//! Every file under `tests/compose/`: `NAME.yaml` is read and what comes out is compared with `NAME.expected`, to the
//! letter. `NAME.override.yaml` is a second file, `NAME.env` the `.env` beside them; what they refer to lies under `more/`.
//! Lines that begin with `#!` say what
//! the command line would: `#! -p shop`, `#! --profile debug`, `#! orders`, `#! KEY=value` (environment).
//!
//! `UPDATE_EXPECTED=1` writes the expected files anew; then look at the difference.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use sinew_spec::compose::{ComposeInput, PathKind, Reader, read};

/// The folder that the files pretend to be in.
const FOLDER: &str = "/app";

/// A small file system.
struct Files;

impl Reader for Files {
    fn read(&self, path: &Path) -> io::Result<String> {
        let text = match path.to_str() {
            Some("/app/app.env") => "# shared\nLEVEL=info\nGREETING=\"hello ${WHO:-world}\"\nRAW='$HOME'\n",
            Some("/app/broken.env") => "GOOD=1\nthis is not a line\nOPEN=\"never closed\n",
            Some("/app/secret.env") => return Err(io::ErrorKind::PermissionDenied.into()),
            _ => return std::fs::read_to_string(more(path).ok_or(io::ErrorKind::NotFound)?),
        };
        Ok(text.to_owned())
    }

    fn kind(&self, path: &Path) -> Option<PathKind> {
        match path.to_str()? {
            "/app/app.env" | "/app/broken.env" | "/app/secret.env" | "/app/token.txt" | "/app/nginx.conf" => {
                Some(PathKind::File)
            }
            "/app" | "/app/src" | "/app/data" | "/home/ada" | "/home/ada/models" | "/dev/snd"
            | "/opt/tools" => Some(PathKind::Folder),
            "/dev/ttyUSB0" => Some(PathKind::Device),
            _ => kind(&more(path)?),
        }
    }
}

/// Where a file of the pretended folder really lies.
fn more(path: &Path) -> Option<PathBuf> {
    Some(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/compose/more")
            .join(path.strip_prefix(FOLDER).ok()?),
    )
}

fn kind(path: &Path) -> Option<PathKind> {
    let found = std::fs::metadata(path).ok()?;
    Some(if found.is_dir() { PathKind::Folder } else { PathKind::File })
}

#[test]
fn every_file_gives_what_is_expected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compose");
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .filter_map(|entry| {
            entry.unwrap().file_name().into_string().unwrap().strip_suffix(".yaml").map(str::to_owned)
        })
        .filter(|name| !name.ends_with(".override"))
        .collect();
    names.sort();
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let mut wrong = Vec::new();
    let (mut malformed, mut good) = (0, 0);
    for name in &names {
        let (found, is_good) = outcome(&folder, name);
        if is_good {
            good += 1
        } else {
            malformed += 1
        }
        let path = folder.join(format!("{name}.expected"));
        if update {
            std::fs::write(&path, &found).unwrap();
            continue;
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        if found != expected {
            wrong.push(format!("=== {name}\n--- expected\n{expected}--- found\n{found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(malformed >= 50, "only {malformed} malformed files");
    assert!(good >= 10, "only {good} good files");
}

/// What comes out, as text, and whether it is an application.
fn outcome(folder: &Path, name: &str) -> (String, bool) {
    let text = std::fs::read(folder.join(format!("{name}.yaml"))).unwrap();
    let text = String::from_utf8(text).unwrap();
    let mut environment = BTreeMap::from([("HOME".to_owned(), "/home/ada".to_owned())]);
    let (mut application_name, mut profiles, mut services) = (None, Vec::new(), Vec::new());
    for line in text.lines().filter_map(|line| line.strip_prefix("#! ")) {
        match line.split_once([' ', '=']) {
            Some(("-p", name)) => application_name = Some(name.to_owned()),
            Some(("--profile", profile)) => profiles.push(profile.to_owned()),
            Some((key, value)) => drop(environment.insert(key.to_owned(), value.to_owned())),
            None => services.push(line.to_owned()),
        }
    }
    let mut files = vec![(inside(&format!("{name}.yaml")), text)];
    if let Ok(text) = std::fs::read_to_string(folder.join(format!("{name}.override.yaml"))) {
        files.push((inside(&format!("{name}.override.yaml")), text));
    }
    let dotenv = std::fs::read_to_string(folder.join(format!("{name}.env"))).ok();
    let loaded = read(&ComposeInput {
        files,
        folder: FOLDER.into(),
        name: application_name,
        environment: &environment,
        dotenv: dotenv.map(|text| (inside(".env"), text)),
        profiles,
        reader: &Files,
        services,
    });
    let mut found = String::new();
    if !loaded.warnings.is_empty() {
        writeln!(found, "{} warnings:\n{}", loaded.warnings.len(), loaded.warnings).unwrap();
    }
    match &loaded.application {
        Ok(application) => writeln!(found, "{}", serde_json::to_string_pretty(application).unwrap()).unwrap(),
        Err(problems) => write!(found, "{problems}").unwrap(),
    }
    (found, loaded.application.is_ok())
}

/// The examples are what newcomers copy: they are read without a word.
#[test]
fn examples_give_neither_problems_nor_warnings() {
    struct Disk;
    impl Reader for Disk {
        fn read(&self, path: &Path) -> io::Result<String> {
            std::fs::read_to_string(path)
        }

        fn kind(&self, path: &Path) -> Option<PathKind> {
            kind(path)
        }
    }
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let folders = std::fs::read_dir(examples).unwrap().map(|entry| entry.unwrap().path());
    let mut count = 0;
    for folder in folders.filter(|folder| folder.join("compose.yaml").exists()) {
        let path = folder.join("compose.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        let loaded = read(&ComposeInput {
            files: vec![(path, text)],
            folder,
            name: None,
            environment: &BTreeMap::new(),
            dotenv: None,
            profiles: Vec::new(),
            reader: &Disk,
            services: Vec::new(),
        });
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
        assert!(loaded.application.is_ok(), "{}", loaded.application.unwrap_err());
        count += 1;
    }
    assert!(count > 0, "there is no example");
}

fn inside(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}
