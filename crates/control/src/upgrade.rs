//! Steps from the store of an earlier version to that of the next one. Each reads one file and writes another: whoever
//! calls puts the new one in the old one's place, when it is whole.

use std::path::Path;

use crate::addresses::{HOST_ADDRESS, SERVICE_ADDRESS};
use crate::store::{Change, Expected, Store, StoreError};

/// Version 0 held the whole application, with the values of its environment, in records and in their history. Version 1
/// holds the virtual addresses alone. The file is written anew, as a database keeps deleted values in its free pages.
pub fn without_application(old: &Path, new: &Path) -> Result<(), StoreError> {
    let old = Store::open(old)?;
    let mut changes = Vec::new();
    for kind in [SERVICE_ADDRESS, HOST_ADDRESS] {
        for record in old.list(kind)?.0 {
            changes.push((Change::Put { kind, name: record.name, value: record.value }, Expected::Absent));
        }
    }
    let new = Store::open(new)?;
    new.commit(changes)?;
    Ok(())
}
