//! What an instance waits for before it is started: the conditions of `depends_on`.

use std::collections::BTreeMap;

use sinew_spec::application::{Dependency, DependencyCondition};
use sinew_spec::name::InstanceName;
use sinew_spec::status::InstanceState;

use crate::board::View;

#[cfg(test)]
mod tests;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Go,
    /// For what, in words.
    Wait(Vec<String>),
    /// Will not come true without help.
    Never(String),
}

pub fn judge(dependencies: &[Dependency], views: &BTreeMap<InstanceName, View>) -> Verdict {
    let mut waits = Vec::new();
    for dependency in dependencies {
        match condition(dependency, views) {
            Ok(true) => {}
            Ok(false) => waits.push(words(dependency)),
            // `required: false`: Compose goes ahead with a warning.
            Err(_) if !dependency.required => {}
            Err(reason) => return Verdict::Never(reason),
        }
    }
    if waits.is_empty() { Verdict::Go } else { Verdict::Wait(waits) }
}

fn words(dependency: &Dependency) -> String {
    let service = &dependency.service;
    match dependency.condition {
        DependencyCondition::ServiceStarted => format!("{service} to start"),
        DependencyCondition::ServiceHealthy => format!("{service} to be healthy"),
        DependencyCondition::ServiceCompletedSuccessfully => format!("{service} to complete"),
    }
}

fn condition(dependency: &Dependency, views: &BTreeMap<InstanceName, View>) -> Result<bool, String> {
    let instances: Vec<(&InstanceName, &View)> =
        views.iter().filter(|(_, view)| view.service == dependency.service && !view.retiring).collect();
    let service = &dependency.service;
    if instances.is_empty() {
        return if dependency.required { Ok(false) } else { Err(format!("{service} is not there")) };
    }
    match dependency.condition {
        DependencyCondition::ServiceStarted => {
            Ok(instances.iter().all(|(_, view)| view.started_unix_ms.is_some()))
        }
        DependencyCondition::ServiceHealthy => {
            if let Some((name, view)) =
                instances.iter().find(|(_, view)| view.state == InstanceState::Exited && !view.ready)
            {
                return Err(format!("{name} ended with code {} before it was healthy", code(view)));
            }
            Ok(instances.iter().all(|(_, view)| view.ready))
        }
        DependencyCondition::ServiceCompletedSuccessfully => {
            let failed = |view: &View| view.state == InstanceState::Exited && view.exit_code != Some(0);
            if let Some((name, view)) = instances.iter().find(|(_, view)| failed(view)) {
                return Err(format!("{name} ended with code {}", code(view)));
            }
            Ok(instances.iter().all(|(_, view)| view.state == InstanceState::Exited))
        }
    }
}

fn code(view: &View) -> String {
    view.exit_code.map_or_else(|| "unknown".to_owned(), |code| code.to_string())
}
