//! "Did you mean …?"

/// The candidate that is nearest to what was written, when one is near enough.
pub(super) fn nearest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    near(written, candidates)
        .into_iter()
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The same; `None` also when several are as near: `v3` means neither `v1` nor `v2`.
pub(super) fn nearest_alone<'a>(
    written: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let near = near(written, candidates);
    let least = near.iter().map(|(distance, _)| *distance).min()?;
    let mut as_near = near.iter().filter(|(distance, _)| *distance == least);
    let (_, first) = as_near.next()?;
    as_near.next().is_none().then_some(*first)
}

/// Those that are near enough, and how near.
fn near<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Vec<(usize, &'a str)> {
    const WRITTEN_MAX: usize = 40;
    let written: Vec<char> = written.chars().take(WRITTEN_MAX + 1).flat_map(char::to_lowercase).collect();
    if written.is_empty() || written.len() > WRITTEN_MAX {
        return Vec::new();
    }
    let near_enough = (written.len() / 3).clamp(1, 3);
    let with_distance =
        candidates.into_iter().filter(|candidate| candidate.len() <= WRITTEN_MAX).map(|candidate| {
            let letters: Vec<char> = candidate.chars().flat_map(char::to_lowercase).collect();
            (distance(&written, &letters), candidate)
        });
    with_distance.filter(|(distance, _)| *distance <= near_enough).collect()
}

/// Letters to insert, remove, change or swap with their neighbour (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before_last: Vec<usize> = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}
