//! One function per version. A step reads `old`, the state folder as it is, and leaves in `new` the files that take the
//! place of those with the same names. What it does not write stays.

use std::path::Path;

use sinew_control::upgrade;

pub type Step = fn(old: &Path, new: &Path) -> Result<(), String>;

/// The step at place N makes version N + 1 of version N.
pub const STEPS: [Step; 1] = [forget_values];

/// 0 -> 1: the store no longer holds the application, whose environment may hold secrets.
fn forget_values(old: &Path, new: &Path) -> Result<(), String> {
    upgrade::without_application(&old.join("store.redb"), &new.join("store.redb"))
        .map_err(|error| error.to_string())
}
