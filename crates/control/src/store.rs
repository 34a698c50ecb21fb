//! What survives a restart, on disk: records by kind and name, one revision per transaction.
//!
//! A watcher reads from a revision on; the history is bounded, and who asks for more of it than there is gets
//! [`StoreError::Compacted`] and lists again. Nothing is written unless something changes, so an idle system does not
//! wear out its flash.

use std::fs::OpenOptions;
use std::ops::Bound;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use redb::{Database, ReadableDatabase, TableDefinition};
use tokio::sync::watch;

/// Transactions that watchers can go back.
pub const HISTORY_MAX: u64 = 64;
/// The database holds a few hundred KiB; what is in use is also in the kernel's page cache.
const CACHE_BYTES: usize = 256 * 1024;
/// One record: an application with inline configs is the largest.
const VALUE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// (kind, name) -> (revision of the last change, value)
const RECORDS: TableDefinition<(&str, &str), (u64, &[u8])> = TableDefinition::new("records");
/// (revision, place within it) -> (kind, name, value; `None`: deleted)
type HistoryTable = TableDefinition<'static, (u64, u32), (&'static str, &'static str, Option<&'static [u8]>)>;
const HISTORY: HistoryTable = TableDefinition::new("history");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const REVISION: &str = "revision";
/// Revisions up to this one are no longer in the history.
const COMPACTED: &str = "compacted";

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the store {path}: {source}")]
    Open { path: std::path::PathBuf, source: redb::Error },
    #[error("the store: {0}")]
    Database(#[from] redb::Error),
    #[error("{kind}/{name} is at revision {found}, not at the expected one")]
    Conflict { kind: String, name: String, found: u64 },
    #[error("{kind}/{name} is larger than {VALUE_BYTES_MAX} bytes")]
    TooLarge { kind: String, name: String },
    #[error("revision {asked} is no longer in the history, which begins after {oldest}: list again")]
    Compacted { asked: u64, oldest: u64 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub name: String,
    /// Of its last change.
    pub revision: u64,
    pub value: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Put { kind: &'static str, name: String, value: Vec<u8> },
    Delete { kind: &'static str, name: String },
}

/// What must hold of a record before it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    Anything,
    Absent,
    Revision(u64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub revision: u64,
    pub kind: String,
    pub name: String,
    /// `None`: deleted.
    pub value: Option<Vec<u8>>,
}

pub struct Store {
    database: Database,
    revision: watch::Sender<u64>,
}

impl Store {
    /// Opens the file or makes it (mode 0600). One process at a time.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let open = || -> Result<(Database, u64), redb::Error> {
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
            let mut builder = Database::builder();
            let database = builder.set_cache_size(CACHE_BYTES).create_file(file)?;
            let revision = match database.begin_read()?.open_table(META) {
                Ok(meta) => meta.get(REVISION)?.map_or(0, |revision| revision.value()),
                Err(redb::TableError::TableDoesNotExist(_)) => 0,
                Err(error) => return Err(error.into()),
            };
            Ok((database, revision))
        };
        let (database, revision) =
            open().map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
        let store = Self { database, revision: watch::Sender::new(revision) };
        if revision == 0 {
            store.make_tables()?;
        }
        Ok(store)
    }

    /// So that reading needs no special case for a table that was never written.
    fn make_tables(&self) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        transaction.open_table(RECORDS)?;
        transaction.open_table(HISTORY)?;
        transaction.open_table(META)?;
        transaction.commit()?;
        Ok(())
    }

    /// Of the last transaction; 0: nothing was ever written.
    pub fn revision(&self) -> u64 {
        *self.revision.borrow()
    }

    pub fn get(&self, kind: &str, name: &str) -> Result<Option<Record>, StoreError> {
        let read = || -> Result<Option<Record>, redb::Error> {
            let table = self.database.begin_read()?.open_table(RECORDS)?;
            Ok(table.get((kind, name))?.map(|found| {
                let (revision, value) = found.value();
                Record { name: name.to_owned(), revision, value: value.to_vec() }
            }))
        };
        Ok(read()?)
    }

    /// All of a kind by name, and the revision that this is the state of: watch from it on.
    pub fn list(&self, kind: &str) -> Result<(Vec<Record>, u64), StoreError> {
        let read = || -> Result<(Vec<Record>, u64), redb::Error> {
            let transaction = self.database.begin_read()?;
            let revision =
                transaction.open_table(META)?.get(REVISION)?.map_or(0, |revision| revision.value());
            let table = transaction.open_table(RECORDS)?;
            let mut records = Vec::new();
            for entry in table.range((kind, "")..)? {
                let (key, value) = entry?;
                let (found, name) = key.value();
                if found != kind {
                    break;
                }
                let (revision, value) = value.value();
                records.push(Record { name: name.to_owned(), revision, value: value.to_vec() });
            }
            Ok((records, revision))
        };
        Ok(read()?)
    }

    /// Writes one record. Returns the store's revision: a new one, or the present one when nothing changes.
    pub fn put(
        &self,
        kind: &'static str,
        name: &str,
        value: Vec<u8>,
        expected: Expected,
    ) -> Result<u64, StoreError> {
        self.commit(vec![(Change::Put { kind, name: name.to_owned(), value }, expected)])
    }

    pub fn delete(&self, kind: &'static str, name: &str, expected: Expected) -> Result<u64, StoreError> {
        self.commit(vec![(Change::Delete { kind, name: name.to_owned() }, expected)])
    }

    /// All of the changes as one revision, or none of them. Changes to what is already so are left out; when nothing
    /// is left, nothing is written.
    pub fn commit(&self, changes: Vec<(Change, Expected)>) -> Result<u64, StoreError> {
        let changes = self.effective(changes)?;
        if changes.is_empty() {
            return Ok(self.revision());
        }
        let revision = self.revision() + 1;
        self.write(revision, &changes)?;
        self.revision.send_replace(revision);
        Ok(revision)
    }

    fn effective(&self, changes: Vec<(Change, Expected)>) -> Result<Vec<Change>, StoreError> {
        let mut effective = Vec::new();
        for (change, expected) in changes {
            let (kind, name, value) = match &change {
                Change::Put { kind, name, value } => (*kind, name, Some(value)),
                Change::Delete { kind, name } => (*kind, name, None),
            };
            if value.is_some_and(|value| value.len() > VALUE_BYTES_MAX) {
                return Err(StoreError::TooLarge { kind: kind.into(), name: name.clone() });
            }
            let present = self.get(kind, name)?;
            let found = present.as_ref().map_or(0, |record| record.revision);
            let holds = match expected {
                Expected::Anything => true,
                Expected::Absent => present.is_none(),
                Expected::Revision(revision) => present.is_some() && revision == found,
            };
            if !holds {
                return Err(StoreError::Conflict { kind: kind.into(), name: name.clone(), found });
            }
            if present.as_ref().map(|record| &record.value) != value {
                effective.push(change);
            }
        }
        Ok(effective)
    }

    fn write(&self, revision: u64, changes: &[Change]) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        {
            let mut records = transaction.open_table(RECORDS)?;
            let mut history = transaction.open_table(HISTORY)?;
            let mut meta = transaction.open_table(META)?;
            for (place, change) in (0u32..).zip(changes) {
                match change {
                    Change::Put { kind, name, value } => {
                        records.insert((*kind, name.as_str()), (revision, value.as_slice()))?;
                        history.insert((revision, place), (*kind, name.as_str(), Some(value.as_slice())))?;
                    }
                    Change::Delete { kind, name } => {
                        records.remove((*kind, name.as_str()))?;
                        history.insert((revision, place), (*kind, name.as_str(), None))?;
                    }
                }
            }
            meta.insert(REVISION, revision)?;
            let compacted = revision.saturating_sub(HISTORY_MAX);
            if compacted > 0 {
                history.retain_in(..=(compacted, u32::MAX), |_, _| false)?;
                meta.insert(COMPACTED, compacted)?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// What happened to a kind after revision `from`, then what happens.
    pub fn watch(&self, kind: &'static str, from: u64) -> Watch<'_> {
        Watch { store: self, kind, seen: from, changed: self.revision.subscribe() }
    }

    fn events_after(&self, kind: &str, from: u64) -> Result<(Vec<Event>, u64), StoreError> {
        let read = || -> Result<(Vec<Event>, u64, u64), redb::Error> {
            let transaction = self.database.begin_read()?;
            let meta = transaction.open_table(META)?;
            let revision = meta.get(REVISION)?.map_or(0, |revision| revision.value());
            let oldest = meta.get(COMPACTED)?.map_or(0, |revision| revision.value());
            let history = transaction.open_table(HISTORY)?;
            let mut events = Vec::new();
            for entry in history.range((Bound::Excluded((from, u32::MAX)), Bound::Unbounded))? {
                let (key, value) = entry?;
                let (found, name, value) = value.value();
                if found == kind {
                    let (kind, name) = (found.to_owned(), name.to_owned());
                    events.push(Event {
                        revision: key.value().0,
                        kind,
                        name,
                        value: value.map(<[u8]>::to_vec),
                    });
                }
            }
            Ok((events, revision, oldest))
        };
        let (events, revision, oldest) = read()?;
        if from < oldest {
            return Err(StoreError::Compacted { asked: from, oldest });
        }
        Ok((events, revision))
    }
}

/// Reads a kind's history onwards.
pub struct Watch<'a> {
    store: &'a Store,
    kind: &'static str,
    seen: u64,
    changed: watch::Receiver<u64>,
}

impl Watch<'_> {
    /// Waits for the next changes, in order. Cancel safe: nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<Vec<Event>, StoreError> {
        loop {
            self.changed.borrow_and_update();
            let (events, revision) = self.store.events_after(self.kind, self.seen)?;
            self.seen = self.seen.max(revision);
            if !events.is_empty() {
                return Ok(events);
            }
            // The sender lives in the store, which is borrowed: this cannot fail.
            let _ = self.changed.changed().await;
        }
    }
}

#[cfg(test)]
mod tests;
