//! Each key of the table stands once in a file of its own: the reader does with it what the table says.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::compose::{ComposeInput, PathKind, Problem, Reader, read};

use super::super::{KEYS, Section, Support};

struct Nothing;

impl Reader for Nothing {
    fn read(&self, _: &Path) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn kind(&self, _: &Path) -> Option<PathKind> {
        None
    }
}

/// A file with a key in the mapping of a section. The value is nothing: what is said of values does not matter here.
fn file(section: Section, key: &str) -> String {
    let top = |name: &str| format!("services: {{a: {{command: [a]}}}}\n{name}: {{b: {{{key}: }}}}");
    let service = |rest: &str| format!("services: {{a: {{command: [a], {rest}}}}}");
    match section {
        Section::Top if key == "services" => "services: ".to_owned(),
        Section::Top => format!("services: {{a: {{command: [a]}}}}\n{key}: "),
        Section::Include => format!("services: {{a: {{command: [a]}}}}\ninclude: [{{{key}: }}]"),
        Section::Service => format!("services: {{a: {{{key}: }}}}"),
        Section::Network => top("networks"),
        Section::Volume => top("volumes"),
        Section::Secret => top("secrets"),
        Section::Config => top("configs"),
        Section::Extends => service(&format!("extends: {{{key}: }}")),
        Section::Healthcheck => service(&format!("healthcheck: {{{key}: }}")),
        Section::Deploy => service(&format!("deploy: {{{key}: }}")),
        Section::DeployResources => service(&format!("deploy: {{resources: {{{key}: }}}}")),
        Section::DeployLimits => service(&format!("deploy: {{resources: {{limits: {{{key}: }}}}}}")),
        Section::DeployRestartPolicy => service(&format!("deploy: {{restart_policy: {{{key}: }}}}")),
        Section::UpdateConfig => service(&format!("deploy: {{update_config: {{{key}: }}}}")),
        Section::RollbackConfig => service(&format!("deploy: {{rollback_config: {{{key}: }}}}")),
        Section::DependsOn => service(&format!("depends_on: {{b: {{{key}: }}}}")),
        Section::Build => service(&format!("build: {{{key}: }}")),
        Section::Ulimit => service(&format!("image: i, ulimits: {{nofile: {{{key}: }}}}")),
        Section::EnvFile => service(&format!("env_file: [{{{key}: }}]")),
        Section::Port => service(&format!("ports: [{{{key}: }}]")),
        Section::ServiceVolume => service(&format!("volumes: [{{{key}: }}]")),
        Section::ServiceVolumeBind => mount("bind", key),
        Section::ServiceVolumeVolume => mount("volume", key),
        Section::ServiceVolumeTmpfs => mount("tmpfs", key),
        Section::ServiceNetwork => service(&format!("networks: {{b: {{{key}: }}}}")),
        Section::Grant => service(&format!("configs: [{{{key}: }}]")),
        Section::Device => service(&format!("devices: [{{{key}: }}]")),
        Section::Logging => service(&format!("logging: {{{key}: }}")),
        Section::LoggingOptions => service(&format!("logging: {{options: {{{key}: }}}}")),
        Section::Sinew => service(&format!("x-sinew: {{{key}: }}")),
        Section::SinewBuild => service(&format!("x-sinew: {{build: {{{key}: }}}}")),
        Section::SinewHealth => service(&format!("x-sinew: {{health: {{{key}: }}}}")),
        Section::SinewHealthHttp => service(&format!("x-sinew: {{health: {{http: {{{key}: }}}}}}")),
        Section::SinewVolume => service(&format!("volumes: [{{x-sinew: {{{key}: }}}}]")),
        Section::SinewTop => format!("services: {{a: {{command: [a]}}}}\nx-sinew: {{{key}: }}"),
        Section::SinewGateway => {
            format!("services: {{a: {{command: [a]}}}}\nx-sinew: {{gateway: {{{key}: }}}}")
        }
        Section::SinewEgress => service(&format!("x-sinew: {{egress: [{{{key}: }}]}}")),
    }
}

fn mount(kind: &str, key: &str) -> String {
    format!(
        "services: {{a: {{command: [a], volumes: [{{type: {kind}, source: b, target: /c, {kind}: {{{key}: }}}}]}}}}"
    )
}

#[test]
fn the_reader_does_with_each_key_what_the_table_says() {
    let environment = BTreeMap::new();
    for key in KEYS {
        let text = file(key.section, key.name);
        let loaded = read(&ComposeInput {
            files: vec![("/p/compose.yaml".into(), text.clone())],
            folder: "/p".into(),
            name: Some("p".to_owned()),
            environment: &environment,
            dotenv: None,
            profiles: Vec::new(),
            reader: &Nothing,
            services: Vec::new(),
        });
        let problems: Vec<Problem> = loaded.application.err().into_iter().flatten().collect();
        let about = |list: &[Problem], what: &str| list.iter().any(|problem| problem.what == what);
        let refused = about(&problems, &format!("`{}` is not supported", key.name));
        let warnings: Vec<Problem> = loaded.warnings.into_iter().collect();
        let ignored = about(&warnings, &format!("`{}` has no effect", key.name));
        let unknown = problems.iter().any(|problem| problem.what.contains("is not a key of"));
        assert_eq!(refused, key.support == Support::Refused, "{text}\n{problems:#?}");
        assert_eq!(ignored, key.support == Support::NoEffect, "{text}\n{warnings:#?}");
        assert!(!unknown, "{text}\n{problems:#?}");
    }
}
