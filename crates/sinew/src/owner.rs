//! Whose name it is: two folders whose applications are called the same would replace each other and share volumes.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sinew_node::folders::{Folders, write_whole};
use sinew_spec::application::Application;

use crate::failure::Failure;

/// Refuses a name that an application of another folder has: one that runs, or one whose volumes are kept. A folder that
/// does not exist any more was moved.
pub fn check(folders: &Folders, application: &Application) -> Result<(), Failure> {
    let own = &application.folder;
    let name = &application.name;
    if let Some(other) = runs_from(folders).filter(|other| is_another(own, other)) {
        let message = format!(
            "application `{name}` runs from {} already; the one of {} has the same name",
            other.display(),
            own.display()
        );
        return Err(Failure::bad_input("name_taken", message)
            .hint(format!("{}; or `sinew -p {name} down` ends the other one", OTHER_NAME)));
    }
    let volumes = folders.volume_names().unwrap_or_default();
    if !volumes.is_empty()
        && let Some(other) = kept_for(folders).filter(|other| is_another(own, other))
    {
        let message = format!(
            "the volumes of application `{name}` ({}) belong to the one of {}; the one of {} has the same name",
            volumes.join(", "),
            other.display(),
            own.display()
        );
        return Err(Failure::bad_input("name_taken", message)
            .hint(format!("{}; or `sinew -p {name} down -v` deletes those volumes", OTHER_NAME)));
    }
    Ok(())
}

const OTHER_NAME: &str =
    "call this one something else: `name: …` at the top of its file, `-p NAME` or COMPOSE_PROJECT_NAME";

/// From now on what is kept under the name is that of this folder. The caller holds the application's lock.
pub fn claim(folders: &Folders, folder: &Path) -> std::io::Result<()> {
    write_whole(&folders.origin(), folder.as_os_str().as_encoded_bytes())
}

/// Of the record that a launcher keeps; more stands in it.
fn runs_from(folders: &Folders) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Record {
        application: Origin,
    }
    #[derive(Deserialize)]
    struct Origin {
        folder: PathBuf,
    }
    let record: Record = serde_json::from_slice(&fs::read(folders.application_record()).ok()?).ok()?;
    Some(record.application.folder)
}

fn kept_for(folders: &Folders) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let bytes = fs::read(folders.origin()).ok()?;
    Some(PathBuf::from(std::ffi::OsString::from_vec(bytes)))
}

fn is_another(own: &Path, other: &Path) -> bool {
    let Ok(there) = fs::canonicalize(other) else { return false };
    fs::canonicalize(own).map_or(own != other, |here| here != there)
}
