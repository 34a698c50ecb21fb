//! From what was typed to the service or instance that is meant.

use sinew_spec::name::{InstanceName, ServiceName};
use sinew_spec::status::{ApplicationStatus, InstanceStatus, ServiceStatus};

use crate::failure::Failure;
use crate::suggest;

#[derive(Clone, Copy, Debug)]
pub struct Selected<'a> {
    pub service: &'a ServiceStatus,
    /// `None`: all of them.
    pub instance: Option<&'a InstanceStatus>,
}

impl Selected<'_> {
    pub fn service_name(&self) -> ServiceName {
        self.service.name.clone()
    }

    pub fn instance_name(&self) -> Option<InstanceName> {
        self.instance.map(|instance| instance.name.clone())
    }
}

/// `orders` or `orders-2`. A service wins over an instance of the same name.
pub fn select<'a>(status: &'a ApplicationStatus, typed: &str) -> Result<Selected<'a>, Failure> {
    if let Some(service) = status.services.iter().find(|service| service.name.as_str() == typed) {
        return Ok(Selected { service, instance: None });
    }
    for service in &status.services {
        if let Some(instance) = service.instances.iter().find(|instance| instance.name.as_str() == typed) {
            return Ok(Selected { service, instance: Some(instance) });
        }
    }
    Err(unknown(status, typed))
}

/// Like [`select`] for several; none typed: every service.
pub fn select_all<'a>(status: &'a ApplicationStatus, typed: &[String]) -> Result<Vec<Selected<'a>>, Failure> {
    if typed.is_empty() {
        return Ok(status.services.iter().map(|service| Selected { service, instance: None }).collect());
    }
    typed.iter().map(|typed| select(status, typed)).collect()
}

fn unknown(status: &ApplicationStatus, typed: &str) -> Failure {
    // `orders-9` where `orders` has three instances: the service is right, the number is not.
    let numbered =
        typed.rsplit_once('-').filter(|(_, number)| number.bytes().all(|byte| byte.is_ascii_digit()));
    if let Some((name, _)) = numbered
        && let Some(service) = status.services.iter().find(|service| service.name.as_str() == name)
    {
        let names: Vec<&str> = service.instances.iter().map(|instance| instance.name.as_str()).collect();
        let hint = match names.as_slice() {
            [] => format!("`{name}` has no instance now; `sinew start {name}` starts it"),
            names => format!("there is: {}", names.join(", ")),
        };
        return Failure::bad_input(
            "unknown_instance",
            format!("application `{}` has no instance `{typed}`", status.name),
        )
        .hint(hint);
    }
    let names = status.services.iter().map(|service| service.name.as_str());
    Failure::bad_input("unknown_service", format!("application `{}` has no service `{typed}`", status.name))
        .hint(suggest::hint(typed, "service", names))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::sample;

    fn check(typed: &str, expected: Result<(&str, Option<&str>), &str>) {
        let status = sample::shop();
        let found = select(&status, typed).map_err(|failure| failure.hint.unwrap_or_default());
        let found = found.map(|found| (found.service.name.as_str(), found.instance.map(|i| i.name.as_str())));
        assert_eq!(found, expected.map_err(str::to_owned), "{typed}");
    }

    #[test]
    fn finds_services_and_instances_or_says_which_there_are() {
        check("orders", Ok(("orders", None)));
        check("orders-2", Ok(("orders", Some("orders-2"))));
        check("orders-9", Err("there is: orders-1, orders-2"));
        check("ordesr", Err("did you mean `orders`? There is: db, orders, billing, migrate"));
        check("zzz", Err("there is: db, orders, billing, migrate"));
    }

    #[test]
    fn nothing_typed_means_every_service() {
        let status = sample::shop();
        assert_eq!(select_all(&status, &[]).expect("all").len(), 4);
        assert!(select_all(&status, &["db".to_owned(), "x".to_owned()]).is_err());
    }
}
