//! Latencies in fixed buckets, eight to each power of two: a quantile from them is within 6 % of the truth between
//! 16 µs and 67 s.

use std::time::Duration;

use crate::counter::Counter;

/// Buckets per power of two: 2^3.
const SUB_BITS: u32 = 3;
const SUB: usize = 1 << SUB_BITS;
/// The first bucket holds everything below 2^4 µs.
const FIRST_BITS: u32 = 4;
/// The last holds everything from 2^26 µs (67 s) on.
const LAST_BITS: u32 = 26;
pub(crate) const BUCKETS: usize = (LAST_BITS - FIRST_BITS) as usize * SUB + 2;

/// Upper bounds in microseconds and how many were below each, cumulative: `spec::status::RouteStats::latency_us`.
/// Bounds between which nothing fell are left out; the bound of what was beyond all buckets is `u64::MAX`.
pub type Latency = Vec<(u64, u64)>;

/// 1.4 KiB; the worker that owns it records without a lock.
#[derive(Debug)]
pub struct Histogram {
    counts: [Counter; BUCKETS],
    sum_us: Counter,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: std::array::from_fn(|_| Counter::default()), sum_us: Counter::default() }
    }
}

impl Histogram {
    pub fn record(&self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.counts[bucket(us)].increment();
        self.sum_us.add(us.min(u64::MAX >> 16));
    }

    pub(crate) fn counts(&self) -> Vec<u64> {
        self.counts.iter().map(Counter::get).collect()
    }

    pub(crate) fn sum_us(&self) -> u64 {
        self.sum_us.get()
    }
}

fn bucket(us: u64) -> usize {
    if us < 1 << FIRST_BITS {
        return 0;
    }
    let bits = us.ilog2();
    if bits >= LAST_BITS {
        return BUCKETS - 1;
    }
    let sub = (us >> (bits - SUB_BITS)) as usize & (SUB - 1);
    1 + (bits - FIRST_BITS) as usize * SUB + sub
}

/// Exclusive; `u64::MAX` of the last.
pub(crate) fn upper_bound_us(bucket: usize) -> u64 {
    if bucket + 1 >= BUCKETS {
        return u64::MAX;
    }
    let (power, sub) = (bucket / SUB, bucket % SUB);
    (SUB + sub) as u64 * (1 << FIRST_BITS) / SUB as u64 * (1 << power)
}

/// Both bounds of each bucket that is not empty, so that the list can be read without knowing the buckets.
pub(crate) fn cumulative(counts: &[u64]) -> Latency {
    let mut out = Latency::new();
    let mut below = 0;
    for (i, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let lower = if i == 0 { 0 } else { upper_bound_us(i - 1) };
        if out.last().is_none_or(|last| last.0 != lower) {
            out.push((lower, below));
        }
        below += count;
        out.push((upper_bound_us(i), below));
    }
    out
}

/// What was recorded between two readings of one histogram. If it started anew in between (it has less now), all of
/// `now`.
pub fn difference(now: &[(u64, u64)], before: &[(u64, u64)]) -> Latency {
    let grew = now.iter().all(|&(bound, count)| count >= below(before, bound))
        && before.iter().all(|&(bound, count)| below(now, bound) >= count);
    if !grew {
        return now.to_vec();
    }
    combine(now, before, |now, before| now - before)
}

/// Two histograms as one.
pub fn merge(a: &[(u64, u64)], b: &[(u64, u64)]) -> Latency {
    combine(a, b, |a, b| a + b)
}

/// The latency, in microseconds, that a share of `quantile` (0 to 1) stayed below; `None` of nothing. The middle of the
/// bucket where it lies, so the error is half a bucket: at most 6 %.
pub fn quantile_us(latency: &[(u64, u64)], quantile: f64) -> Option<f64> {
    let total = latency.last()?.1;
    if total == 0 {
        return None;
    }
    let rank = ((total as f64 * quantile.clamp(0.0, 1.0)).ceil() as u64).max(1);
    let at = latency.partition_point(|&(_, count)| count < rank);
    let lower = at.checked_sub(1).map_or(0, |before| latency[before].0);
    let upper = latency[at].0;
    // Beyond the last bucket only its lower bound is known.
    Some(if upper == u64::MAX { lower as f64 } else { (lower as f64 + upper as f64) / 2.0 })
}

fn below(latency: &[(u64, u64)], bound: u64) -> u64 {
    let at = latency.partition_point(|&(known, _)| known <= bound);
    at.checked_sub(1).map_or(0, |at| latency[at].1)
}

fn combine(a: &[(u64, u64)], b: &[(u64, u64)], count: impl Fn(u64, u64) -> u64) -> Latency {
    let mut bounds: Vec<u64> = a.iter().chain(b).map(|&(bound, _)| bound).collect();
    bounds.sort_unstable();
    bounds.dedup();
    let mut out: Latency =
        bounds.into_iter().map(|bound| (bound, count(below(a, bound), below(b, bound)))).collect();
    // A bound after which nothing is added, and before which nothing was, says nothing.
    let counts: Vec<u64> = out.iter().map(|entry| entry.1).collect();
    let mut i = 0;
    out.retain(|_| {
        let flat_before = if i == 0 { counts[i] == 0 } else { counts[i] == counts[i - 1] };
        let flat_after = counts.get(i + 1).is_none_or(|next| *next == counts[i]);
        i += 1;
        !(flat_before && flat_after)
    });
    out
}

#[cfg(test)]
mod tests;
