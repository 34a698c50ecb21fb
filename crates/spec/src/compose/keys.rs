//! Every key that a compose file may hold, in one table: what is done with it, and for a refused one what to do
//! instead. The reader, the documentation and the comparison with the published schema all use it.

use Section::*;

mod table;

pub use table::KEYS;

/// The mapping that a key stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    Top,
    Include,
    Service,
    Extends,
    Healthcheck,
    Deploy,
    DeployResources,
    DeployLimits,
    DeployRestartPolicy,
    UpdateConfig,
    RollbackConfig,
    DependsOn,
    Build,
    Ulimit,
    EnvFile,
    Port,
    ServiceVolume,
    ServiceVolumeBind,
    ServiceVolumeVolume,
    ServiceVolumeTmpfs,
    ServiceNetwork,
    Grant,
    Device,
    Logging,
    LoggingOptions,
    Network,
    Volume,
    Secret,
    Config,
    Sinew,
    SinewBuild,
    SinewHealth,
    SinewHealthHttp,
    SinewEgress,
    SinewVolume,
    SinewTop,
    SinewGateway,
}

impl Section {
    pub const ALL: [Self; 37] = [
        Self::Top,
        Self::Include,
        Self::Service,
        Self::Extends,
        Self::Healthcheck,
        Self::Deploy,
        Self::DeployResources,
        Self::DeployLimits,
        Self::DeployRestartPolicy,
        Self::UpdateConfig,
        Self::RollbackConfig,
        Self::DependsOn,
        Self::Build,
        Self::Ulimit,
        Self::EnvFile,
        Self::Port,
        Self::ServiceVolume,
        Self::ServiceVolumeBind,
        Self::ServiceVolumeVolume,
        Self::ServiceVolumeTmpfs,
        Self::ServiceNetwork,
        Self::Grant,
        Self::Device,
        Self::Logging,
        Self::LoggingOptions,
        Self::Network,
        Self::Volume,
        Self::Secret,
        Self::Config,
        Self::Sinew,
        Self::SinewBuild,
        Self::SinewHealth,
        Self::SinewHealthHttp,
        Self::SinewEgress,
        Self::SinewVolume,
        Self::SinewTop,
        Self::SinewGateway,
    ];

    /// What the mapping is, in a message: "`portz` is not a key of a service".
    pub fn describe(self) -> &'static str {
        match self {
            Self::Top => "the top level",
            Self::Include => "an entry of `include`",
            Self::Service => "a service",
            Self::Extends => "`extends`",
            Self::Healthcheck => "`healthcheck`",
            Self::Deploy => "`deploy`",
            Self::DeployResources => "`deploy.resources`",
            Self::DeployLimits => "`deploy.resources.limits`",
            Self::DeployRestartPolicy => "`deploy.restart_policy`",
            Self::UpdateConfig => "`deploy.update_config`",
            Self::RollbackConfig => "`deploy.rollback_config`",
            Self::DependsOn => "an entry of `depends_on`",
            Self::Build => "`build`",
            Self::Ulimit => "a limit of `ulimits`",
            Self::EnvFile => "an entry of `env_file`",
            Self::Port => "an entry of `ports`",
            Self::ServiceVolume => "an entry of a service's `volumes`",
            Self::ServiceVolumeBind => "`bind`",
            Self::ServiceVolumeVolume => "`volume`",
            Self::ServiceVolumeTmpfs => "`tmpfs`",
            Self::ServiceNetwork => "a service's network",
            Self::Grant => "an entry of a service's `configs` or `secrets`",
            Self::Device => "an entry of `devices`",
            Self::Logging => "`logging`",
            Self::LoggingOptions => "`logging.options`",
            Self::Network => "a network",
            Self::Volume => "a volume",
            Self::Secret => "a secret",
            Self::Config => "a config",
            Self::Sinew => "`x-sinew`",
            Self::SinewBuild => "`x-sinew.build`",
            Self::SinewHealth => "`x-sinew.health`",
            Self::SinewHealthHttp => "`x-sinew.health.http`",
            Self::SinewEgress => "an entry of `x-sinew.egress`",
            Self::SinewVolume => "`x-sinew` of a volume",
            Self::SinewTop => "`x-sinew` at the top",
            Self::SinewGateway => "`x-sinew.gateway`",
        }
    }

    /// Where the keys are written, for the documentation.
    pub fn place(self) -> &'static str {
        match self {
            Self::Top => "(top level)",
            Self::Include => "include[]",
            Self::Service => "services.*",
            Self::Extends => "services.*.extends",
            Self::Healthcheck => "services.*.healthcheck",
            Self::Deploy => "services.*.deploy",
            Self::DeployResources => "services.*.deploy.resources",
            Self::DeployLimits => "services.*.deploy.resources.limits",
            Self::DeployRestartPolicy => "services.*.deploy.restart_policy",
            Self::UpdateConfig => "services.*.deploy.update_config",
            Self::RollbackConfig => "services.*.deploy.rollback_config",
            Self::DependsOn => "services.*.depends_on.*",
            Self::Build => "services.*.build",
            Self::Ulimit => "services.*.ulimits.*",
            Self::EnvFile => "services.*.env_file[]",
            Self::Port => "services.*.ports[]",
            Self::ServiceVolume => "services.*.volumes[]",
            Self::ServiceVolumeBind => "services.*.volumes[].bind",
            Self::ServiceVolumeVolume => "services.*.volumes[].volume",
            Self::ServiceVolumeTmpfs => "services.*.volumes[].tmpfs",
            Self::ServiceNetwork => "services.*.networks.*",
            Self::Grant => "services.*.configs[], services.*.secrets[]",
            Self::Device => "services.*.devices[]",
            Self::Logging => "services.*.logging",
            Self::LoggingOptions => "services.*.logging.options",
            Self::Network => "networks.*",
            Self::Volume => "volumes.*",
            Self::Secret => "secrets.*",
            Self::Config => "configs.*",
            Self::Sinew => "services.*.x-sinew",
            Self::SinewBuild => "services.*.x-sinew.build",
            Self::SinewHealth => "services.*.x-sinew.health",
            Self::SinewHealthHttp => "services.*.x-sinew.health.http",
            Self::SinewEgress => "services.*.x-sinew.egress[]",
            Self::SinewVolume => "services.*.volumes[].x-sinew",
            Self::SinewTop => "x-sinew",
            Self::SinewGateway => "x-sinew.gateway",
        }
    }

    /// Compose ignores keys that begin with `x-`; inside of `x-sinew` every key is ours.
    pub fn allows_extensions(self) -> bool {
        !matches!(
            self,
            Self::Sinew
                | Self::SinewBuild
                | Self::SinewHealth
                | Self::SinewHealthHttp
                | Self::SinewEgress
                | Self::SinewVolume
                | Self::SinewTop
                | Self::SinewGateway
        )
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    Supported,
    /// Not with every value that Compose allows; others are refused where they stand.
    InPart,
    /// Accepted with a warning: it changes nothing here.
    NoEffect,
    Refused,
}

#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub section: Section,
    pub name: &'static str,
    pub support: Support,
    /// The version of Sinew from which on it is so.
    pub since: &'static str,
    /// Supported: what deserves to be known. In part: with what. Otherwise: why, and what to do instead.
    pub note: &'static str,
}

pub fn find(section: Section, name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.section == section && key.name == name)
}

pub fn of(section: Section) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| key.section == section)
}

/// Keys that people write when they mean another one: found nowhere in the schema, or in the wrong place.
pub(super) fn meant(section: Section, name: &str) -> Option<&'static str> {
    let lower = name.to_ascii_lowercase();
    Some(match (section, lower.as_str()) {
        (Service, "env" | "envs" | "variables" | "environments") => "did you mean `environment`?",
        (Service, "envfile" | "env-file" | "env_files") => "did you mean `env_file`?",
        (Service, "cmd" | "run" | "exec" | "args" | "program") => "did you mean `command`?",
        (Service, "replicas" | "instances") => "write `deploy: {replicas: N}` or `scale: N`",
        (Service, "port" | "publish") => "did you mean `ports`?",
        (Service, "volume" | "mounts" | "mount") => "did you mean `volumes`?",
        (Service, "depends" | "dependson" | "depends-on" | "requires" | "needs" | "after") => {
            "did you mean `depends_on`?"
        }
        (
            Service,
            "health" | "health_check" | "healthchecks" | "probe" | "livenessprobe" | "readinessprobe",
        ) => "did you mean `healthcheck`? HTTP and TCP checks stand under `x-sinew: {health: …}`",
        (Service, "memory" | "mem" | "memory_limit") => "did you mean `mem_limit`?",
        (Service, "cpu" | "cpu_limit") => "did you mean `cpus`?",
        (Service, "resources" | "limits") => "write `deploy: {resources: {limits: …}}`",
        (Service, "egress" | "protocol" | "read") => "it stands under `x-sinew:`",
        (Service, "workdir" | "cwd" | "dir" | "directory" | "workingdir") => "did you mean `working_dir`?",
        (Service, "restart_policy") => "write `restart: …`, or `deploy: {restart_policy: …}`",
        (Service, "dockerfile" | "context") => "it stands under `build:`",
        (Service, "sinew" | "x_sinew" | "xsinew") => "did you mean `x-sinew`?",
        (Top, "service") => "did you mean `services`?",
        (_, "x-sinew") => "it stands under a service, beside `command`",
        (Deploy, "limits" | "cpus" | "memory") => "write `resources: {limits: …}`",
        (Deploy, "scale") => "did you mean `replicas`?",
        (DeployLimits, "cpu") => "did you mean `cpus`?",
        (DeployLimits, "mem" | "mem_limit") => "did you mean `memory`?",
        (Healthcheck, "http" | "tcp") => "HTTP and TCP checks stand under `x-sinew: {health: …}`",
        (Healthcheck, "cmd" | "command" | "exec") => "did you mean `test`?",
        (Healthcheck, "period") => "did you mean `interval`?",
        (
            SinewTop | SinewGateway,
            "build" | "protocol" | "send_proxy" | "accept_proxy" | "egress" | "health" | "read",
        ) => "it stands under `x-sinew` of a service",
        (SinewTop, "handover_drain") => {
            "write `gateway: {handover_drain: …}`, or put it under `x-sinew` of a service"
        }
        (SinewTop, "workers") => "write `gateway: {workers: …}`, or put it under `x-sinew` of a service",
        (Sinew | Service, "gateway") => "write `x-sinew: {gateway: …}` at the top, beside `services`",
        (Top, "gateway") => "write `x-sinew: {gateway: …}`",
        (Sinew, "protocols") => "did you mean `protocol`?",
        (Sinew, "healthcheck") => "did you mean `health`?",
        (SinewHealth, "cmd" | "command" | "exec" | "test") => "commands stand under `healthcheck: {test: …}`",
        (SinewHealth, "interval" | "timeout" | "retries" | "start_period" | "start_interval") => {
            "it stands under `healthcheck`, beside this one"
        }
        (SinewEgress, "protocol") => "did you mean `transport`?",
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
