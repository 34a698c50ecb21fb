//! "Did you mean": the nearest of the names that exist.

/// The name that `typed` most likely stands for; `None` when nothing is near.
pub fn nearest<'a>(typed: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typed = typed.to_lowercase();
    names
        .into_iter()
        .filter_map(|name| score(&typed, &name.to_lowercase()).map(|score| (score, name)))
        .min_by_key(|(score, name)| (*score, name.len()))
        .map(|(_, name)| name)
}

/// Hint for a name that does not exist: the nearest one, and what there is.
pub fn hint<'a>(typed: &str, noun: &str, names: impl IntoIterator<Item = &'a str> + Clone) -> String {
    const LISTED_MAX: usize = 20;
    let all: Vec<&str> = names.clone().into_iter().collect();
    if all.is_empty() {
        return format!("there is no {noun} at all");
    }
    let listed = match all.len() {
        0..=LISTED_MAX => all.join(", "),
        more => format!("{} and {} more", all[..LISTED_MAX].join(", "), more - LISTED_MAX),
    };
    match nearest(typed, names) {
        Some(near) => format!("did you mean `{near}`? There is: {listed}"),
        None => format!("there is: {listed}"),
    }
}

/// Smaller is nearer; `None`: not near enough to be meant.
fn score(typed: &str, name: &str) -> Option<usize> {
    let distance = distance(typed, name);
    let edits_max = typed.chars().count().max(name.chars().count()).div_ceil(3);
    if distance <= edits_max {
        return Some(distance * 2);
    }
    // `dash` for `dashboard-api`
    let is_part = typed.len() >= 3 && (name.contains(typed) || typed.contains(name));
    is_part.then_some(edits_max * 2 + 1)
}

/// Edits (insert, delete, replace, swap of neighbours) from one to the other: optimal string alignment.
fn distance(a: &str, b: &str) -> usize {
    const CHARACTERS_MAX: usize = 128;
    let a: Vec<char> = a.chars().take(CHARACTERS_MAX).collect();
    let b: Vec<char> = b.chars().take(CHARACTERS_MAX).collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before_last[j - 2] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let names = ["broker", "ingest", "dashboard-api", "historian", "rules"];
        for (typed, meant) in [
            ("borker", Some("broker")),
            ("BROKER", Some("broker")),
            ("ingets", Some("ingest")),
            ("dashboard", Some("dashboard-api")),
            ("rule", Some("rules")),
            ("x", None),
            ("payments", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, names), meant, "{typed}");
        }
    }

    #[test]
    fn hints_list_what_there_is() {
        assert_eq!(hint("brokr", "service", ["broker", "ui"]), "did you mean `broker`? There is: broker, ui");
        assert_eq!(hint("zzz", "service", ["broker"]), "there is: broker");
        assert_eq!(hint("zzz", "service", []), "there is no service at all");
    }
}
