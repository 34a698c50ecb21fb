//! The table against the published schema of the Compose Specification (commit 170098ba07d9), and the documentation
//! against the table.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use super::{KEYS, Section, Support, find, of};

/// Every key of the published schema, by the mapping it stands in.
const SCHEMA: [(Section, &str); 25] = [
    (Section::Top, "version name include services models networks volumes secrets configs"),
    (
        Section::Service,
        "develop deploy annotations attach build blkio_config cap_add cap_drop cgroup cgroup_parent command configs container_name cpu_count cpu_percent cpu_shares cpu_quota cpu_period cpu_rt_period cpu_rt_runtime cpus cpuset credential_spec depends_on device_cgroup_rules devices dns dns_opt dns_search domainname entrypoint env_file label_file environment expose extends provider external_links extra_hosts gpus group_add healthcheck hostname image init ipc isolation labels links logging mac_address mem_limit mem_reservation mem_swappiness memswap_limit network_mode models networks oom_kill_disable oom_score_adj pid pids_limit platform ports post_start pre_stop privileged profiles pull_policy pull_refresh_after read_only restart runtime scale security_opt shm_size secrets sysctls stdin_open stop_grace_period stop_signal storage_opt tmpfs tty ulimits use_api_socket user uts userns_mode volumes volumes_from working_dir",
    ),
    (Section::Healthcheck, "disable interval retries test timeout start_period start_interval"),
    (
        Section::Deploy,
        "mode endpoint_mode replicas labels rollback_config update_config resources restart_policy placement",
    ),
    (Section::DeployResources, "limits reservations"),
    (Section::DeployLimits, "cpus memory pids"),
    (Section::DeployRestartPolicy, "condition delay max_attempts window"),
    (Section::DependsOn, "restart required condition"),
    (
        Section::Build,
        "context dockerfile dockerfile_inline entitlements args ssh labels cache_from cache_to no_cache additional_contexts network provenance sbom pull target shm_size extra_hosts isolation privileged secrets tags ulimits platforms",
    ),
    (Section::Ulimit, "hard soft"),
    (Section::EnvFile, "path format required"),
    (Section::Port, "name mode host_ip target published protocol app_protocol"),
    (Section::ServiceVolume, "type source target read_only consistency bind volume tmpfs image"),
    (Section::ServiceVolumeBind, "propagation create_host_path recursive selinux"),
    (Section::ServiceVolumeVolume, "labels nocopy subpath"),
    (Section::ServiceVolumeTmpfs, "size mode"),
    (
        Section::ServiceNetwork,
        "aliases interface_name ipv4_address ipv6_address link_local_ips mac_address driver_opts priority gw_priority",
    ),
    (Section::Grant, "source target uid gid mode"),
    (Section::Device, "source target permissions"),
    (Section::Logging, "driver options"),
    // Any key in the schema: the driver's.
    (Section::LoggingOptions, "max-size max-file compress mode max-buffer-size labels env tag"),
    (
        Section::Network,
        "name driver driver_opts ipam external internal enable_ipv4 enable_ipv6 attachable labels",
    ),
    (Section::Volume, "name driver driver_opts external labels"),
    (Section::Secret, "name environment file external labels driver driver_opts template_driver"),
    (Section::Config, "name content environment file external labels template_driver"),
];

#[test]
fn every_key_of_the_schema_is_in_the_table() {
    for (section, keys) in SCHEMA {
        for key in keys.split_whitespace() {
            assert!(find(section, key).is_some(), "{section:?}: {key} is missing");
        }
    }
}

#[test]
fn the_table_has_no_keys_of_its_own_but_under_x_sinew() {
    for key in KEYS {
        let Some((_, keys)) = SCHEMA.iter().find(|(section, _)| *section == key.section) else {
            assert!(!key.section.allows_extensions(), "{:?} is not in the schema", key.section);
            continue;
        };
        // Refused by name although the schema does not have it: people try it.
        let tried = key.section == Section::Secret && key.name == "content";
        assert!(tried || keys.split_whitespace().any(|known| known == key.name), "{}", key.name);
    }
}

#[test]
fn a_key_is_in_the_table_once_and_a_refused_one_says_what_to_do() {
    let mut seen = BTreeSet::new();
    for key in KEYS {
        assert!(seen.insert((key.section, key.name)), "{} is there twice", key.name);
        assert!(Section::ALL.contains(&key.section));
        assert!(key.support == Support::Supported || !key.note.is_empty(), "{} has no note", key.name);
    }
}

/// `UPDATE_EXPECTED=1` writes the tables of the page anew.
#[test]
fn the_documentation_is_up_to_date() {
    const BEGIN: &str = "<!-- keys: begin -->\n";
    const END: &str = "<!-- keys: end -->\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/compose.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page has the first mark");
    let (tables, after) = rest.split_once(END).expect("the page has the second mark");
    let expected = tables_text();
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
        return;
    }
    assert!(tables == expected, "docs/compose.md differs from the table of keys; run with UPDATE_EXPECTED=1");
}

fn tables_text() -> String {
    let mut text = String::new();
    for section in Section::ALL {
        writeln!(text, "\n### `{}`\n\n| key | support | note |\n|---|---|---|", section.place()).unwrap();
        for key in of(section) {
            let support = match key.support {
                Support::Supported => "supported",
                Support::NoEffect => "no effect",
                Support::Refused => "refused",
            };
            writeln!(text, "| `{}` | {support} | {} |", key.name, key.note.replace('|', "\\|")).unwrap();
        }
    }
    text.push('\n');
    text
}
