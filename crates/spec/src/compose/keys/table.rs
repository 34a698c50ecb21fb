//! The keys themselves.

use super::Section::*;
use super::{Key, Section, Support};

/// What a key is at since the first version. One that changes later says so: `Key { since: "0.2.0", ..yes(…) }`.
const FIRST: &str = "0.1.0";

const fn yes(section: Section, name: &'static str, note: &'static str) -> Key {
    Key { section, name, support: Support::Supported, since: FIRST, note }
}

const fn part(section: Section, name: &'static str, note: &'static str) -> Key {
    Key { section, name, support: Support::InPart, since: FIRST, note }
}

const fn mute(section: Section, name: &'static str, note: &'static str) -> Key {
    Key { section, name, support: Support::NoEffect, since: FIRST, note }
}

const fn no(section: Section, name: &'static str, note: &'static str) -> Key {
    Key { section, name, support: Support::Refused, since: FIRST, note }
}

const ENGINE: &str = "containers run as the engine is set up; leave it out";
const SEALED: &str = "every service has its own sealed namespaces; they cannot be shared or opened";
const REACH: &str = "declare what the service reaches outside under `x-sinew.egress`";
const LIMITS: &str = "limits are `cpus`, `mem_limit` and `pids_limit`, or `deploy.resources.limits`";
const IDENTITY: &str = "services get stable virtual addresses by themselves; call a service by its name";
const OUTSIDE: &str = "leave it out; a sealed service has no capabilities and cannot gain any";
const ONE_CONTEXT: &str = "a build has one context: copy what it needs into it";
const BUILD_SECRETS: &str =
    "the engine's API takes no secrets for builds; build such images by hand, and name them with `image`";
const BUILD_CACHE: &str = "the engine's own cache is used; `no_cache: true` leaves it unused";
const BUILD_HOST: &str = "builds run with the engine's own settings; leave it out";
const BUILD_EXTRAS: &str = "no attestations are made; leave it out";
const METADATA: &str = "nothing reads it here";

pub static KEYS: &[Key] = &[
    yes(Top, "name", "lower-case letters, digits, `-` and `_`; default: the name of the folder"),
    yes(Top, "services", ""),
    yes(Top, "networks", "services that share a network may talk to each other"),
    yes(Top, "volumes", ""),
    yes(Top, "configs", ""),
    yes(Top, "secrets", ""),
    mute(Top, "version", "it is obsolete; remove it"),
    part(Top, "include", "files of this host"),
    no(Top, "models", "run the model's server as a service"),
    //
    yes(Include, "path", "one file, or several that are merged; relative to the project that includes"),
    yes(Include, "project_directory", "default: the folder of the first file"),
    yes(Include, "env_file", "default: `.env` in the project directory; the outer project's variables win"),
    //
    yes(Service, "command", "a list, or a string that is split into words (no shell runs it)"),
    yes(Service, "entrypoint", "stands before `command`"),
    yes(Service, "environment", ""),
    yes(Service, "env_file", ""),
    part(Service, "ports", "served by the gateway; the default address is 127.0.0.1; TCP only"),
    part(Service, "expose", "TCP only"),
    yes(Service, "depends_on", ""),
    yes(Service, "healthcheck", ""),
    yes(Service, "deploy", ""),
    yes(Service, "scale", "the same as `deploy.replicas`"),
    yes(Service, "cpus", "the same as `deploy.resources.limits.cpus`"),
    yes(Service, "mem_limit", "the same as `deploy.resources.limits.memory`"),
    yes(
        Service,
        "pids_limit",
        "processes and threads of each instance; the same as `deploy.resources.limits.pids`",
    ),
    yes(Service, "restart", "`no`, `always`, `on-failure[:attempts]`, `unless-stopped`"),
    yes(Service, "stop_signal", ""),
    yes(Service, "stop_grace_period", ""),
    yes(
        Service,
        "working_dir",
        "relative to the project folder, which is the default; of a container a path inside, by default the image's",
    ),
    yes(Service, "user", ""),
    yes(Service, "hostname", ""),
    part(Service, "volumes", "named volumes, bind mounts, tmpfs"),
    part(Service, "tmpfs", "paths, without options"),
    yes(
        Service,
        "read_only",
        "the root of a process is always read-only, `/tmp` and `/run` stay writable and private; a container gets a read-only root",
    ),
    yes(Service, "devices", ""),
    yes(Service, "configs", ""),
    yes(Service, "secrets", ""),
    yes(Service, "networks", ""),
    yes(Service, "profiles", ""),
    yes(Service, "labels", ""),
    yes(
        Service,
        "init",
        "containers: `true` runs the engine's small init as process 1; a process always has an init",
    ),
    part(Service, "container_name", "only when it equals the service's name"),
    mute(Service, "annotations", METADATA),
    mute(Service, "stdin_open", "the standard input of a service is empty; use `sinew exec` to work inside"),
    yes(
        Service,
        "image",
        "the service is a container of Podman; without `image` and `build` it is a process of this host",
    ),
    yes(Service, "build", "an image is built by Podman, and the service is a container of it"),
    part(Service, "pull_policy", "containers: `missing`, `always`, `never`, `build`"),
    yes(Service, "platform", "containers: like `linux/arm64`"),
    part(Service, "cap_add", "containers: only what does not reach beyond the container"),
    yes(Service, "cap_drop", "containers; processes have no capabilities"),
    part(
        Service,
        "security_opt",
        "containers: `no-new-privileges:true`, the default, or `no-new-privileges:false`; nothing that weakens the seal",
    ),
    yes(
        Service,
        "group_add",
        "containers; of a process, give the group with the user: `user: \"user:group\"`",
    ),
    yes(Service, "ulimits", "containers"),
    yes(Service, "shm_size", "containers"),
    part(Service, "extends", "a service of the same file or of a file of this host"),
    no(Service, "tty", "a service has no terminal; work inside with `sinew exec SERVICE -- COMMAND`"),
    no(Service, "attach", "`sinew logs SERVICE` shows one service's output"),
    yes(Service, "logging", "how much of the output is kept; see it with `sinew logs`"),
    no(Service, "network_mode", SEALED),
    no(Service, "ipc", SEALED),
    no(Service, "pid", SEALED),
    no(Service, "uts", SEALED),
    no(Service, "userns_mode", SEALED),
    no(Service, "cgroup", SEALED),
    no(Service, "cgroup_parent", "cgroups are made per service by themselves"),
    no(Service, "isolation", SEALED),
    no(Service, "privileged", OUTSIDE),
    no(Service, "use_api_socket", "a service never sees a container engine"),
    no(Service, "device_cgroup_rules", "name each device under `devices`"),
    no(Service, "gpus", "name each device under `devices`"),
    no(Service, "sysctls", "kernel parameters cannot be changed from inside of a seal"),
    no(Service, "mem_reservation", LIMITS),
    no(Service, "mem_swappiness", LIMITS),
    no(Service, "memswap_limit", LIMITS),
    no(Service, "oom_kill_disable", LIMITS),
    no(Service, "oom_score_adj", LIMITS),
    no(Service, "blkio_config", LIMITS),
    no(Service, "cpu_count", LIMITS),
    no(Service, "cpu_percent", LIMITS),
    no(Service, "cpu_shares", LIMITS),
    no(Service, "cpu_quota", LIMITS),
    no(Service, "cpu_period", LIMITS),
    no(Service, "cpu_rt_period", LIMITS),
    no(Service, "cpu_rt_runtime", LIMITS),
    no(Service, "cpuset", LIMITS),
    no(Service, "storage_opt", ENGINE),
    no(Service, "credential_spec", ENGINE),
    no(
        Service,
        "pull_refresh_after",
        "images are looked for when `sinew up` is typed: `pull_policy: always`",
    ),
    no(Service, "runtime", ENGINE),
    no(Service, "label_file", "write the labels under `labels`"),
    no(Service, "dns", REACH),
    no(Service, "dns_opt", REACH),
    no(Service, "dns_search", REACH),
    no(Service, "extra_hosts", REACH),
    no(Service, "external_links", REACH),
    no(Service, "links", "every service is reachable by its name; for the order of start use `depends_on`"),
    no(Service, "domainname", IDENTITY),
    no(Service, "mac_address", IDENTITY),
    no(Service, "post_start", "put it into the command, or into `x-sinew.build` when it prepares something"),
    no(Service, "pre_stop", "let the program act on `stop_signal`"),
    no(Service, "provider", "run what it provides as a service, or reach it through `x-sinew.egress`"),
    no(Service, "models", "run the model's server as a service"),
    no(Service, "volumes_from", "name each volume under `volumes`"),
    no(Service, "develop", "use `sinew restart SERVICE` after a change"),
    //
    yes(Extends, "service", ""),
    yes(Extends, "file", "its relative paths start from its own folder; default: the same file"),
    //
    yes(Healthcheck, "test", "`[CMD, …]`, `[CMD-SHELL, …]`, `[NONE]`, or a string for the shell"),
    yes(Healthcheck, "interval", "default 30s"),
    yes(Healthcheck, "timeout", "default 30s"),
    yes(Healthcheck, "retries", "default 3"),
    yes(Healthcheck, "start_period", "default 0s"),
    part(Healthcheck, "start_interval", "until the first success; 100ms at the most, and by default"),
    yes(Healthcheck, "disable", ""),
    //
    part(Deploy, "mode", "`replicated` only"),
    yes(Deploy, "replicas", ""),
    yes(Deploy, "resources", ""),
    yes(Deploy, "restart_policy", ""),
    no(Deploy, "endpoint_mode", IDENTITY),
    no(Deploy, "labels", "write them under the service's `labels`"),
    no(Deploy, "placement", "everything runs on this machine"),
    yes(Deploy, "update_config", "of `sinew update`, and of `sinew up` on what runs: `order`"),
    yes(Deploy, "rollback_config", "of `sinew rollback`"),
    //
    yes(DeployResources, "limits", ""),
    no(DeployResources, "reservations", "nothing is reserved on one machine; set `limits`"),
    //
    yes(DeployLimits, "cpus", ""),
    yes(DeployLimits, "memory", ""),
    yes(DeployLimits, "pids", "default 2048; `-1`: no limit"),
    //
    yes(DeployRestartPolicy, "condition", "`none`, `on-failure`, `any`"),
    yes(DeployRestartPolicy, "max_attempts", "with `condition: on-failure`"),
    no(DeployRestartPolicy, "delay", "the delay grows by itself with each failure"),
    no(DeployRestartPolicy, "window", "the delay grows by itself with each failure"),
    //
    part(UpdateConfig, "parallelism", "`1` only: one after the other"),
    part(UpdateConfig, "delay", "`0s` only"),
    part(
        UpdateConfig,
        "failure_action",
        "`rollback` only, of all services of the update; `sinew up` with a changed file goes no further while a new instance does not serve",
    ),
    yes(UpdateConfig, "monitor", "the longest of the services that are updated; default 30s; `--watch` wins"),
    part(UpdateConfig, "max_failure_ratio", "`0` only"),
    yes(
        UpdateConfig,
        "order",
        "default: `start-first`; `stop-first` where instances would share a writable volume or a device",
    ),
    //
    part(RollbackConfig, "parallelism", "`1` only: one after the other"),
    part(RollbackConfig, "delay", "`0s` only"),
    no(RollbackConfig, "failure_action", "a rollback that fails is taken back like an update; leave it out"),
    yes(RollbackConfig, "monitor", "as of `update_config`, for `sinew rollback`"),
    part(RollbackConfig, "max_failure_ratio", "`0` only"),
    part(RollbackConfig, "order", "as in `update_config` only"),
    //
    yes(DependsOn, "condition", "`service_started`, `service_healthy`, `service_completed_successfully`"),
    yes(DependsOn, "required", "default true"),
    yes(DependsOn, "restart", "default false"),
    //
    part(Build, "context", "a folder of this host; default: the project folder"),
    part(Build, "dockerfile", "default `Dockerfile`; must lie in the context"),
    yes(Build, "args", ""),
    yes(Build, "target", ""),
    yes(Build, "labels", ""),
    yes(Build, "no_cache", ""),
    yes(Build, "pull", "look for newer base images"),
    no(Build, "dockerfile_inline", "write it into a file, and name that as `dockerfile`"),
    no(Build, "additional_contexts", ONE_CONTEXT),
    no(Build, "ssh", BUILD_SECRETS),
    no(Build, "secrets", BUILD_SECRETS),
    no(Build, "cache_from", BUILD_CACHE),
    no(Build, "cache_to", BUILD_CACHE),
    no(Build, "network", BUILD_HOST),
    no(Build, "extra_hosts", BUILD_HOST),
    no(Build, "shm_size", BUILD_HOST),
    no(Build, "ulimits", BUILD_HOST),
    no(Build, "isolation", BUILD_HOST),
    no(Build, "privileged", "a build never gets the privileges of the host"),
    no(Build, "entitlements", "a build never gets the privileges of the host"),
    no(Build, "provenance", BUILD_EXTRAS),
    no(Build, "sbom", BUILD_EXTRAS),
    no(Build, "tags", "the image is called what `image:` says"),
    no(Build, "platforms", "one image is built, for the service's `platform`"),
    //
    yes(Ulimit, "soft", ""),
    yes(Ulimit, "hard", ""),
    //
    yes(EnvFile, "path", ""),
    yes(EnvFile, "required", "default true"),
    yes(EnvFile, "format", "`raw`: values are taken as they are"),
    //
    yes(Port, "target", ""),
    yes(Port, "published", "absent: any free port"),
    yes(Port, "host_ip", "default 127.0.0.1"),
    part(Port, "protocol", "`tcp` only"),
    part(Port, "app_protocol", "`http`, `http1`, `http2` (or `h2c`), `grpc` or `tcp`"),
    yes(Port, "name", "a name that is or begins with a protocol (`http-admin`, `grpc`, `tcp-mqtt`) says it"),
    mute(Port, "mode", "published ports are always served by the gateway"),
    //
    part(ServiceVolume, "type", "`volume`, `bind`, `tmpfs`"),
    yes(ServiceVolume, "source", ""),
    yes(ServiceVolume, "target", ""),
    yes(ServiceVolume, "read_only", ""),
    yes(ServiceVolume, "bind", ""),
    yes(ServiceVolume, "volume", ""),
    yes(ServiceVolume, "tmpfs", ""),
    mute(ServiceVolume, "consistency", "a mount is always consistent here"),
    no(ServiceVolume, "image", "copy what is needed out of the image, into a volume or an image of your own"),
    //
    yes(ServiceVolumeBind, "create_host_path", "default false in the long syntax, true in the short one"),
    no(ServiceVolumeBind, "propagation", "mounts never propagate into or out of a seal"),
    no(ServiceVolumeBind, "recursive", "mounts below are always included"),
    no(ServiceVolumeBind, "selinux", "files are not relabelled"),
    //
    yes(
        ServiceVolumeVolume,
        "nocopy",
        "a new volume of a container begins empty; of a process it always does",
    ),
    mute(ServiceVolumeVolume, "labels", METADATA),
    no(ServiceVolumeVolume, "subpath", "mount the whole volume"),
    //
    no(ServiceVolumeTmpfs, "size", "the memory counts against the service's `mem_limit`"),
    no(ServiceVolumeTmpfs, "mode", "the service's user owns it"),
    //
    part(ServiceNetwork, "aliases", "only the service's own name"),
    mute(ServiceNetwork, "priority", "a seal has one network"),
    mute(ServiceNetwork, "gw_priority", "a seal has one network"),
    no(ServiceNetwork, "interface_name", IDENTITY),
    no(ServiceNetwork, "ipv4_address", IDENTITY),
    no(ServiceNetwork, "ipv6_address", IDENTITY),
    no(ServiceNetwork, "link_local_ips", IDENTITY),
    no(ServiceNetwork, "mac_address", IDENTITY),
    no(ServiceNetwork, "driver_opts", IDENTITY),
    //
    yes(Grant, "source", ""),
    yes(Grant, "target", "default `/run/secrets/NAME` for a secret, `/NAME` for a config"),
    yes(Grant, "uid", ""),
    yes(Grant, "gid", ""),
    yes(Grant, "mode", "octal; default 0400 for a secret, 0444 for a config"),
    //
    yes(Device, "source", ""),
    yes(Device, "target", "default: the same as `source`"),
    yes(
        Device,
        "permissions",
        "`r`, `w`, `m`; nobody can make device nodes inside, so `m` means nothing more",
    ),
    //
    part(
        Logging,
        "driver",
        "`json-file` or `local`, which mean the same here: output is kept in files that `sinew logs` shows",
    ),
    yes(Logging, "options", ""),
    //
    yes(
        LoggingOptions,
        "max-size",
        "with `max-file` the bound of one instance's output; default: its share of 64 MiB",
    ),
    yes(LoggingOptions, "max-file", "default 1; what is kept are two files of `max-size` x `max-file` / 2"),
    mute(LoggingOptions, "compress", "what is kept is small"),
    mute(LoggingOptions, "mode", "a service never waits for its output"),
    mute(LoggingOptions, "max-buffer-size", "a service never waits for its output"),
    mute(LoggingOptions, "labels", METADATA),
    mute(LoggingOptions, "env", METADATA),
    mute(LoggingOptions, "tag", METADATA),
    //
    part(Network, "driver", "`bridge` only"),
    yes(Network, "internal", "nothing leaves but by `x-sinew.egress`, so both values mean the same"),
    mute(Network, "name", "networks of different applications never meet"),
    mute(Network, "attachable", "nothing outside of the application can join"),
    mute(Network, "labels", METADATA),
    no(
        Network,
        "external",
        "networks belong to one application; reach what is outside through `x-sinew.egress`",
    ),
    no(Network, "ipam", IDENTITY),
    no(Network, "driver_opts", IDENTITY),
    no(Network, "enable_ipv4", IDENTITY),
    no(Network, "enable_ipv6", IDENTITY),
    //
    yes(Volume, "name", ""),
    part(Volume, "driver", "`local` only"),
    mute(Volume, "labels", METADATA),
    no(Volume, "driver_opts", "mount the file system on the host and use a bind mount"),
    no(Volume, "external", "volumes belong to one application; share a folder by a bind mount"),
    //
    yes(Secret, "file", ""),
    yes(Secret, "environment", "the name of a variable"),
    mute(Secret, "name", "secrets belong to one application"),
    mute(Secret, "labels", METADATA),
    no(Secret, "content", "what stands in the file is no secret; use `file` or `environment`"),
    no(Secret, "external", "use `file` or `environment`"),
    no(Secret, "driver", "use `file` or `environment`"),
    no(Secret, "driver_opts", "use `file` or `environment`"),
    no(Secret, "template_driver", "use `file` or `environment`"),
    //
    yes(Config, "file", ""),
    yes(Config, "environment", "the name of a variable"),
    yes(Config, "content", "variables in it are replaced"),
    mute(Config, "name", "configs belong to one application"),
    mute(Config, "labels", METADATA),
    no(Config, "external", "use `file`, `environment` or `content`"),
    no(Config, "template_driver", "use `file`, `environment` or `content`"),
    //
    yes(
        Sinew,
        "build",
        "a command (a string, a list of words, `{command, working_dir}`) or a list of such commands; run in order, outside of any seal, before anything starts",
    ),
    yes(
        Sinew,
        "protocol",
        "`http`, `http1`, `http2`, `grpc` or `tcp` for every declared port, or a mapping: `{8000: grpc}`",
    ),
    yes(
        Sinew,
        "egress",
        "what may be reached outside: `host:port[/tcp|udp]`, `10.0.0.0/8:502`, `{host, port, transport}`",
    ),
    yes(
        Sinew,
        "accept_proxy",
        "of published ports: which load balancers say by the PROXY protocol (version 1 or 2) for whom they speak: \
         `{8000: [10.0.0.0/8]}`",
    ),
    yes(
        Sinew,
        "send_proxy",
        "ports whose connections begin with a header of the PROXY protocol that says who called: `{8000: v1}` or `v2`; \
         they speak TCP",
    ),
    yes(Sinew, "health", "a check over the network: `{http: {port, path}}` or `{tcp: port}`"),
    yes(Sinew, "read", "further host paths that the service may read"),
    yes(
        Sinew,
        "workers",
        "threads of its sidecar: 1 to 64, or `auto`, one for each core that it may use; default: 1",
    ),
    yes(
        Sinew,
        "handover_drain",
        "how long connections live on in its sidecar when another build has taken that one's place; default `10m`",
    ),
    //
    yes(SinewBuild, "command", ""),
    yes(SinewBuild, "working_dir", "default: the project folder"),
    //
    yes(SinewHealth, "http", ""),
    yes(SinewHealth, "tcp", "a port that accepts connections"),
    //
    yes(SinewHealthHttp, "port", ""),
    yes(SinewHealthHttp, "path", "default `/`; 200-399 is healthy"),
    //
    yes(SinewEgress, "host", "a name, an address or a network"),
    yes(SinewEgress, "port", ""),
    yes(SinewEgress, "transport", "`tcp` (default) or `udp`"),
    //
    yes(
        SinewVolume,
        "hide",
        "default true; `false` with `type: bind`: the service sees and may change everything in the folder, compose files \
         and `.env` too",
    ),
    //
    yes(SinewTop, "gateway", "what serves published ports"),
    //
    yes(
        SinewGateway,
        "workers",
        "its threads: 1 to 64, or `auto` (default), one for each core that it may use",
    ),
    yes(
        SinewGateway,
        "handover_drain",
        "how long connections live on in it when another build has taken its place; default `10m`",
    ),
];
