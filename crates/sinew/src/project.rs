//! From a folder and options to the files that are meant, by Compose's rules.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

const NAMES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
const OVERRIDES: [&str; 4] = [
    "compose.override.yaml",
    "compose.override.yml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
];

/// Which files make an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// Later ones are merged over earlier ones. `-`: standard input.
    pub files: Vec<PathBuf>,
    /// What relative paths start from; absolute.
    pub folder: PathBuf,
}

/// What was typed about files.
#[derive(Clone, Debug, Default)]
pub struct Wanted<'a> {
    /// FILE|DIR.
    pub place: Option<&'a Path>,
    /// All `-f`.
    pub files: Vec<PathBuf>,
    /// `-C`
    pub folder: Option<&'a Path>,
    /// `COMPOSE_FILE`
    pub from_environment: Option<String>,
}

/// `current`: the working folder, absolute.
pub fn find(wanted: &Wanted<'_>, current: &Path) -> Result<Project, Failure> {
    let at = |path: &Path| normal(&current.join(path));
    let folder = wanted.folder.map(at);
    if let Some(folder) = &folder
        && !folder.is_dir()
    {
        return Err(Failure::bad_input(
            "no_such_folder",
            format!("-C {}: there is no such folder", folder.display()),
        ));
    }
    if wanted.place.is_some() && !wanted.files.is_empty() {
        return Err(Failure::bad_input("arguments", "both -f and a FILE or DIR were given")
            .hint("use one of the two"));
    }
    if let Some(place) = wanted.place.filter(|place| *place != Path::new("-")) {
        let found = at(place);
        if found.is_dir() {
            let files = in_folder(&found).ok_or_else(|| nothing_in(&found))?;
            return Ok(Project { files, folder: folder.unwrap_or(found) });
        }
    }
    let mut files: Vec<PathBuf> =
        wanted.place.map(Path::to_path_buf).into_iter().chain(wanted.files.clone()).collect();
    if files.is_empty()
        && let Some(list) = wanted.from_environment.as_deref().filter(|list| !list.is_empty())
    {
        files = list.split(':').map(PathBuf::from).collect();
    }
    if !files.is_empty() {
        for file in files.iter_mut().filter(|file| **file != Path::new("-")) {
            *file = at(file);
            if !file.exists() {
                return Err(no_such_file(file));
            }
        }
        let beside =
            files[0].parent().filter(|_| files[0] != Path::new("-")).unwrap_or(current).to_path_buf();
        return Ok(Project { files, folder: folder.unwrap_or(beside) });
    }
    let start = folder.clone().unwrap_or_else(|| current.to_path_buf());
    for above in start.ancestors() {
        if let Some(files) = in_folder(above) {
            return Ok(Project { files, folder: above.to_path_buf() });
        }
    }
    Err(Failure::bad_input("no_file", format!("there is no compose file in {} or a folder above it", start.display()))
        .hint("name one: `sinew up path/to/compose.yaml`, or write compose.yaml; what runs elsewhere is found by its name: `-p NAME`"))
}

/// The compose file of a folder and its override.
pub fn in_folder(folder: &Path) -> Option<Vec<PathBuf>> {
    let first = |names: &[&str]| names.iter().map(|name| folder.join(name)).find(|path| path.is_file());
    let mut files = vec![first(&NAMES)?];
    files.extend(first(&OVERRIDES));
    Some(files)
}

fn nothing_in(folder: &Path) -> Failure {
    Failure::bad_input("no_file", format!("there is no compose file in {}", folder.display())).hint(format!(
        "it is called {} or {}",
        NAMES[..3].join(", "),
        NAMES[3]
    ))
}

fn no_such_file(file: &Path) -> Failure {
    let failure = Failure::bad_input("no_such_file", format!("there is no file {}", file.display()));
    let names: Vec<String> = file
        .parent()
        .and_then(|folder| fs::read_dir(folder).ok())
        .into_iter()
        .flatten()
        .flatten()
        .take(1_000)
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.ends_with(".yaml") || name.ends_with(".yml"))
        .collect();
    let typed = file.file_name().unwrap_or_default().to_string_lossy();
    match crate::suggest::nearest(&typed, names.iter().map(String::as_str)) {
        Some(near) => failure.hint(format!("did you mean `{near}`?")),
        None if names.is_empty() && is_named_as_file(&typed) => failure
            .hint("no file of that folder ends in .yaml or .yml; `-f FILE` names one that lies elsewhere"),
        None if is_named_as_file(&typed) => failure.hint(format!("there is: {}", listed(names))),
        None => failure.hint(
            "a FILE, a DIR with a compose.yaml, or nothing for this folder; services are not named here",
        ),
    }
}

fn is_named_as_file(typed: &str) -> bool {
    typed.ends_with(".yaml") || typed.ends_with(".yml")
}

fn listed(mut names: Vec<String>) -> String {
    const LISTED_MAX: usize = 10;
    names.sort();
    let more = if names.len() > LISTED_MAX { ", …" } else { "" };
    names.truncate(LISTED_MAX);
    format!("{}{more}", names.join(", "))
}

/// Without `.` and `..`, as typed otherwise: links stay, so that messages show what the user wrote.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => drop(normal.pop()),
            part => normal.push(part),
        }
    }
    normal
}

#[cfg(test)]
mod tests;
