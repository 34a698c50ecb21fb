//! What a run says: a line per measurement, tables, and the page.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::Sample;
use crate::machine;
use crate::peers::{Kind, Peer};
use crate::scenario::{ALL, Figure, Goal, Rival, SPEEDUP_MIN, Scenario};

const HEAD: &str = include_str!("report/head.md");
const NOTES: &str = include_str!("report/notes.md");

/// By scenario and proxy, one for each round.
#[derive(Default)]
pub struct Figures(BTreeMap<(&'static str, String), Vec<Sample>>);

impl Figures {
    pub fn add(&mut self, scenario: &'static str, proxy: &str, sample: Sample) {
        self.0.entry((scenario, proxy.to_owned())).or_default().push(sample);
    }

    fn of(&self, scenario: &Scenario, proxy: &str) -> &[Sample] {
        self.0.get(&(scenario.name, proxy.to_owned())).map_or(&[], Vec::as_slice)
    }

    fn median(&self, scenario: &Scenario, proxy: &str, figure: impl Fn(&Sample) -> f64) -> Option<f64> {
        let mut values: Vec<f64> = self.of(scenario, proxy).iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        match values.len() {
            0 => None,
            length if length % 2 == 1 => Some(values[middle]),
            _ => Some((values[middle - 1] + values[middle]) / 2.0),
        }
    }

    /// The figure that the goal is about.
    fn goal_figure(&self, scenario: &Scenario, proxy: &str) -> Option<f64> {
        match scenario.goal.figure {
            Figure::CpuUs => self.median(scenario, proxy, |sample| sample.cpu_us),
            Figure::Speedup => self.median(scenario, proxy, Sample::speedup),
            Figure::PssMb => self.median(scenario, proxy, |sample| megabytes(sample.loaded.pss_kib)),
            Figure::AddedP50Us => Some(
                self.median(scenario, proxy, |sample| sample.p50_us)?
                    - self.median(scenario, "direct", |sample| sample.p50_us)?,
            ),
        }
    }
}

fn megabytes(kib: u64) -> f64 {
    kib as f64 * 1024.0 / 1e6
}

/// One measurement as it is made.
pub fn line(scenario: &Scenario, sample: &Sample) -> String {
    if scenario.goal.figure == Figure::Speedup {
        return format!(
            "{:.0}/s, {:.2} × {:.0}/s of one worker; {:.1} µs CPU at the same rate, {:.1} of one worker",
            sample.per_second,
            sample.speedup(),
            sample.alone_per_second,
            sample.cpu_us,
            sample.alone_cpu_us
        );
    }
    if scenario.load.memory {
        return format!(
            "idle {:.1} MB PSS ({:.1} private), with connections {:.1} ({:.1})",
            megabytes(sample.idle.pss_kib),
            megabytes(sample.idle.private_kib),
            megabytes(sample.loaded.pss_kib),
            megabytes(sample.loaded.private_kib)
        );
    }
    format!(
        "{:.1} µs CPU ({:.1} user), {:.0}/s, p50 {:.0} µs, p99 {:.0} µs",
        sample.cpu_us, sample.user_us, sample.per_second, sample.p50_us, sample.p99_us
    )
}

pub struct Report<'a> {
    pub peers: &'a [Peer],
    pub figures: &'a Figures,
    pub rounds: usize,
}

impl Report<'_> {
    /// `docs/performance.md`.
    pub fn page(&self) -> String {
        let versions: Vec<String> = self
            .peers
            .iter()
            .filter(|peer| peer.kind != Kind::Sinew)
            .map(|peer| format!("{} {}", title(peer), peer.version()))
            .collect();
        let head = HEAD
            .replace("{machine}", &machine::describe())
            .replace("{peers}", &versions.join(", "))
            .replace("{rounds}", &self.rounds.to_string());
        format!("{head}\n{}{NOTES}", self.tables())
    }

    pub fn tables(&self) -> String {
        let measured: Vec<&Scenario> = ALL
            .iter()
            .filter(|scenario| {
                self.peers.iter().any(|peer| !self.figures.of(scenario, &peer.name).is_empty())
            })
            .collect();
        let mut text = self.overview(&measured);
        for scenario in measured {
            text += &self.detail(scenario);
        }
        text
    }

    /// Goals and medians, one row per scenario.
    fn overview(&self, measured: &[&Scenario]) -> String {
        let mut text = "## Against the goals\n\n| |".to_owned();
        for peer in self.peers {
            let _ = write!(text, " {} |", title(peer));
        }
        text += " ours ÷ best peer | goal | reached |\n|---|";
        text += &"---|".repeat(self.peers.len() + 3);
        text.push('\n');
        for scenario in measured {
            let _ = write!(text, "| {} |", scenario.title);
            let figure = |peer: &Peer| self.figures.goal_figure(scenario, &peer.name);
            for peer in self.peers {
                let _ = write!(text, " {} |", number(figure(peer)));
            }
            let others = self.peers.iter().filter(|peer| peer.kind != Kind::Sinew);
            let best = others.filter_map(figure).min_by(f64::total_cmp);
            let best = best.filter(|_| scenario.goal.figure != Figure::Speedup);
            let ours = self.peers.iter().find(|peer| peer.name == "sinew").and_then(figure);
            let ratio = ours.zip(best).map(|(ours, best)| ours / best);
            let reached = ours.map_or("-", |ours| self.reached(scenario, ours, best));
            let ratio = ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
            let _ = writeln!(text, " {ratio} | {} | {reached} |", goal_text(&scenario.goal));
        }
        text.push('\n');
        text
    }

    fn reached(&self, scenario: &Scenario, ours: f64, best: Option<f64>) -> &'static str {
        if scenario.goal.figure == Figure::Speedup {
            return if ours >= SPEEDUP_MIN { "yes" } else { "no" };
        }
        let Some(at_most) = scenario.goal.at_most else { return "-" };
        if ours <= at_most {
            return "yes";
        }
        let figure = |kind: Kind| {
            let peer = self.peers.iter().find(|peer| peer.kind == kind)?;
            self.figures.goal_figure(scenario, &peer.name)
        };
        let is_below = |&(rival, ratio): &(Rival, f64)| {
            let figure = match rival {
                Rival::Envoy => figure(Kind::Envoy),
                Rival::Nginx => figure(Kind::Nginx),
                Rival::Haproxy => figure(Kind::Haproxy),
                Rival::Best => best,
            };
            figure.is_some_and(|figure| ours <= ratio * figure)
        };
        let ratios = scenario.goal.ratios;
        if !ratios.is_empty() && ratios.iter().all(is_below) { "yes (ratio)" } else { "no" }
    }

    fn detail(&self, scenario: &Scenario) -> String {
        let mut text = format!("### {}\n\n", capitalized(scenario.title));
        text += match scenario.goal.figure {
            Figure::Speedup => {
                "| | per second | of one worker | ratio | CPU µs at 3000/s | of one worker |\n|---|---|---|---|---|---|\n"
            }
            Figure::PssMb => {
                "| | idle PSS MB | of it private | with connections PSS MB | of it private |\n|---|---|---|---|---|\n"
            }
            Figure::CpuUs | Figure::AddedP50Us => {
                "| | CPU µs | of it user | least..most | per second | p50 µs | p99 µs |\n|---|---|---|---|---|---|---|\n"
            }
        };
        let direct =
            (scenario.goal.figure == Figure::AddedP50Us).then_some(("direct", "no proxy".to_owned()));
        let rows = direct.into_iter().chain(self.peers.iter().map(|peer| (peer.name.as_str(), title(peer))));
        for (name, title) in rows {
            let median = |figure: fn(&Sample) -> f64| number(self.figures.median(scenario, name, figure));
            let samples = self.figures.of(scenario, name);
            let _ = if scenario.goal.figure == Figure::Speedup {
                writeln!(
                    text,
                    "| {title} | {} | {} | {} | {} | {} |",
                    median(|sample| sample.per_second),
                    median(|sample| sample.alone_per_second),
                    median(Sample::speedup),
                    median(|sample| sample.cpu_us),
                    median(|sample| sample.alone_cpu_us)
                )
            } else if scenario.load.memory {
                writeln!(
                    text,
                    "| {title} | {} | {} | {} | {} |",
                    median(|sample| megabytes(sample.idle.pss_kib)),
                    median(|sample| megabytes(sample.idle.private_kib)),
                    median(|sample| megabytes(sample.loaded.pss_kib)),
                    median(|sample| megabytes(sample.loaded.private_kib))
                )
            } else {
                let least = samples.iter().map(|sample| sample.cpu_us).min_by(f64::total_cmp);
                let most = samples.iter().map(|sample| sample.cpu_us).max_by(f64::total_cmp);
                writeln!(
                    text,
                    "| {title} | {} | {} | {}..{} | {} | {} | {} |",
                    median(|sample| sample.cpu_us),
                    median(|sample| sample.user_us),
                    number(least),
                    number(most),
                    median(|sample| sample.per_second),
                    median(|sample| sample.p50_us),
                    median(|sample| sample.p99_us)
                )
            };
        }
        text.push('\n');
        text
    }
}

/// `≤ 9, or ≤ 0.19 × Envoy and ≤ 0.60 × nginx`.
fn goal_text(goal: &Goal) -> String {
    if goal.figure == Figure::Speedup {
        return format!("≥ {SPEEDUP_MIN}");
    }
    let Some(at_most) = goal.at_most else { return "-".to_owned() };
    let unit = match goal.figure {
        Figure::CpuUs | Figure::Speedup => "",
        Figure::PssMb => " MB PSS",
        Figure::AddedP50Us => " µs",
    };
    let ratio = |&(rival, ratio): &(Rival, f64)| {
        let name = match rival {
            Rival::Envoy => "Envoy",
            Rival::Nginx => "nginx",
            Rival::Haproxy => "HAProxy",
            Rival::Best => "the best",
        };
        format!("≤ {ratio:.2} × {name}")
    };
    let ratios: Vec<String> = goal.ratios.iter().map(ratio).collect();
    let or = if ratios.is_empty() { "" } else { ", or " };
    format!("≤ {at_most}{unit}{or}{}", ratios.join(" and "))
}

fn title(peer: &Peer) -> String {
    match (&peer.kind, peer.name.as_str()) {
        (Kind::Haproxy, _) => "HAProxy".to_owned(),
        (Kind::Nginx, name) => name.to_owned(),
        (_, "sinew") => "**Sinew**".to_owned(),
        (_, name) => capitalized(name),
    }
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

fn number(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value.abs() >= 1000.0 => format!("{value:.0}"),
        Some(value) if value.abs() < 10.0 => format!("{value:.2}"),
        Some(value) => format!("{value:.1}"),
    }
}
