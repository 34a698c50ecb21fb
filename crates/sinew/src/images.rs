//! Images of containers: built or pulled by the engine before anything starts. What an image says completes what the file
//! says, so that the launcher needs to know nothing of images but an id.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use sinew_engine::{Build, Context, Engine, Image, Progress};
use sinew_spec::application::{
    Application, Container, DependencyCondition, HealthCheck, ImageBuild, Probe, Service,
};
use sinew_spec::name::ServiceName;
use sinew_spec::update::ImageVersion;

use crate::build::Spinner;
use crate::failure::Failure;
use crate::terminal::{Paint, Terminal, harmless};
use crate::units::{now_unix_ms, span};
use crate::versions::engine::EngineStore;
use crate::versions::pin::pin;

/// Of the output of a build that fails.
const LINES_SHOWN_MAX: usize = 40;
/// Docker's defaults for an image's own check, where the image says nothing.
const HEALTH_MS: u64 = 30_000;
const HEALTH_RETRIES: u32 = 3;
const HEALTH_START_MS: u64 = 100;

/// What is done with images before anything starts.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// False leaves alone what was built before.
    pub build: bool,
    /// `sinew.lock` is not to be changed.
    pub locked: bool,
}

/// Brings every image here and completes the services that run from them. Nothing is asked where there is no container.
pub fn prepare(application: &mut Application, options: Options, terminal: &Terminal) -> Result<(), Failure> {
    if application.services.values().all(|service| service.container.is_none()) {
        return Ok(());
    }
    let store = EngineStore::find(terminal)?;
    build(application, &store.engine, options.build, terminal)?;
    let pinned = pin(application, &store, options.locked, now_unix_ms())?;
    for line in pinned.news.iter().filter(|_| !terminal.is_json()) {
        eprintln!("{} {line}", terminal.paint_error(Paint::Warn, "note:"));
    }
    complete_all(application, &store.engine, &pinned.versions)?;
    check_conditions(application)
}

/// Builds what is built by the engine. `again`: also what is here from before.
pub fn build(
    application: &Application,
    engine: &Engine,
    again: bool,
    terminal: &Terminal,
) -> Result<(), Failure> {
    // Services often share an image.
    let mut done: Vec<(&str, &ImageBuild)> = Vec::new();
    for service in application.services.values() {
        let Some(container) = &service.container else { continue };
        let Some(wanted) = &container.build else { continue };
        let key = (container.image.as_str(), wanted);
        if done.contains(&key) {
            continue;
        }
        done.push(key);
        let work = Work { engine, service: &service.name, container, terminal };
        if again || work.look(&container.image)?.is_none() {
            work.build(wanted)?;
        }
    }
    Ok(())
}

/// Completes the services that run from images with what those say. Others stay as they are.
pub fn complete_all(
    application: &mut Application,
    engine: &Engine,
    versions: &BTreeMap<ServiceName, ImageVersion>,
) -> Result<(), Failure> {
    let mut known: BTreeMap<&str, Image> = BTreeMap::new();
    for (name, version) in versions {
        let Some(service) = application.services.get_mut(name) else { continue };
        let id = version.id.as_str();
        if !known.contains_key(id) {
            let found = engine.image(id).map_err(|error| Failure::failed("engine", error.to_string()))?;
            let gone =
                || Failure::failed("no_image", format!("{name}: the image {id} was here, and is gone"));
            known.insert(id, found.ok_or_else(gone)?);
        }
        let image = &known[id];
        if let Some(container) = &service.container {
            check_platform(name, container, image)?;
        }
        complete(service, image)?;
    }
    Ok(())
}

struct Work<'a> {
    engine: &'a Engine,
    service: &'a ServiceName,
    container: &'a Container,
    terminal: &'a Terminal,
}

impl Work<'_> {
    fn look(&self, reference: &str) -> Result<Option<Image>, Failure> {
        self.engine.image(reference).map_err(|error| Failure::failed("engine", error.to_string()))
    }

    fn build(&self, wanted: &ImageBuild) -> Result<(), Failure> {
        let pairs = |map: &BTreeMap<String, String>| map.clone().into_iter().collect();
        let build = Build {
            tag: self.container.image.clone(),
            dockerfile: wanted.dockerfile.display().to_string(),
            arguments: pairs(&wanted.arguments),
            target: wanted.target.clone(),
            labels: pairs(&wanted.labels),
            platform: self.container.platform.clone(),
            no_cache: wanted.no_cache,
            pull: wanted.pull,
        };
        let what = format!("building the image of `{}` in {}", self.service, wanted.context.display());
        let mut context = Context::of(&wanted.context, &wanted.dockerfile)
            .map_err(|error| Failure::failed("build", format!("{what}: {error}")))?;
        let started = Instant::now();
        let spinner = Spinner::new("building", self.service, &build.tag, self.terminal);
        let mut last = VecDeque::new();
        let mut tell = |progress: Progress| {
            for line in progress.stream.unwrap_or_default().lines().filter(|line| !line.trim().is_empty()) {
                spinner.line(line);
                if last.len() == LINES_SHOWN_MAX {
                    last.pop_front();
                }
                last.push_back(harmless(line, false));
            }
        };
        let built = self.engine.build(&build, &mut context, &mut tell);
        spinner.finish();
        built.map_err(|error| {
            Failure::failed("build", format!("{what} failed: {error}"))
                .log(last.into())
                .hint("nothing was started; `sinew up --no-build` takes the image that was built before")
        })?;
        let text = format!("built {} in {}\n", build.tag, span(started.elapsed()));
        if self.terminal.is_json() {
            Ok(())
        } else {
            self.terminal.print(&self.terminal.paint(Paint::Dim, &text))
        }
    }
}

fn check_platform(service: &ServiceName, container: &Container, image: &Image) -> Result<(), Failure> {
    let Some(wanted) = &container.platform else { return Ok(()) };
    let has = format!("{}/{}", image.os, image.architecture);
    // A variant (`linux/arm/v7`) is not said by every image.
    if *wanted == has || wanted.starts_with(&format!("{has}/")) {
        return Ok(());
    }
    let message = format!("the image {} is for {has}, and `{service}` wants {wanted}", container.image);
    Err(Failure::bad_input("platform", message)
        .hint("remove the image (`podman rmi`), so that the other one is pulled"))
}

/// Takes over what the file leaves to the image.
fn complete(service: &mut Service, image: &Image) -> Result<(), Failure> {
    let name = service.name.clone();
    let Some(container) = &mut service.container else { return Ok(()) };
    container.image_id.clone_from(&image.id);
    let (entrypoint, own_command) = match &container.entrypoint {
        // The image's command belongs to the image's entrypoint.
        Some(entrypoint) => (entrypoint.clone(), Vec::new()),
        None => (image.entrypoint.clone(), image.command.clone()),
    };
    let command = container.command.clone().unwrap_or(own_command);
    service.command = entrypoint.into_iter().chain(command).collect();
    if service.command.is_empty() {
        let message =
            format!("the image {} of `{name}` says no command, and neither does the file", container.image);
        return Err(Failure::bad_input("no_command", message).hint("write `command: [program, argument]`"));
    }
    if container.stop_signal.is_none() && !image.stop_signal.is_empty() {
        service.stop_signal = signal(&image.stop_signal).unwrap_or(service.stop_signal);
    }
    if !container.has_own_health {
        service.health = health(image);
    }
    Ok(())
}

/// `SIGQUIT`, `QUIT`, `3`, `SIGRTMIN+3`.
fn signal(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(above) = name.strip_prefix("RTMIN") {
        let above: i32 = if above.is_empty() { 0 } else { above.strip_prefix('+')?.parse().ok()? };
        return (0..=30).contains(&above).then_some(34 + above);
    }
    format!("SIG{name}").parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32)
}

fn health(image: &Image) -> Option<HealthCheck> {
    let own = image.health.as_ref()?;
    let words: Vec<&str> = own.test.iter().map(String::as_str).collect();
    let command = match words.as_slice() {
        ["CMD", command @ ..] if !command.is_empty() => {
            command.iter().map(|word| (*word).to_owned()).collect()
        }
        ["CMD-SHELL", script] => ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        _ => return None,
    };
    let ms =
        |nanoseconds: u64, default| if nanoseconds == 0 { default } else { (nanoseconds / 1_000_000).max(1) };
    Some(HealthCheck {
        probe: Probe::Command(command),
        interval_ms: ms(own.interval, HEALTH_MS),
        timeout_ms: ms(own.timeout, HEALTH_MS),
        retries: if own.retries == 0 { HEALTH_RETRIES } else { own.retries },
        start_period_ms: ms(own.start_period, 0),
        start_interval_ms: HEALTH_START_MS,
    })
}

/// Whether what is waited for can come, now that images have said how their health is asked.
fn check_conditions(application: &Application) -> Result<(), Failure> {
    for service in application.services.values() {
        for dependency in &service.depends_on {
            let other = application.services.get(&dependency.service);
            if dependency.condition == DependencyCondition::ServiceHealthy
                && other.is_some_and(|other| other.health.is_none())
            {
                let name = &dependency.service;
                let message = format!(
                    "`{}` waits until `{name}` is healthy, and neither the file nor the image of `{name}` says how its \
                     health is asked",
                    service.name
                );
                return Err(Failure::bad_input("no_health", message)
                    .hint(format!("give `{name}` a `healthcheck`, or wait for `service_started`")));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
