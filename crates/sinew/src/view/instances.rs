//! `sinew ps`: one line for each instance.

use sinew_spec::status::{ApplicationStatus, InstanceState, InstanceStatus};

use super::{health_of, state_of};
use crate::table::{Align, Cell, Table};
use crate::terminal::{Paint, Terminal, harmless};
use crate::units::age;

pub fn render(status: &ApplicationStatus, terminal: &Terminal, now_unix_ms: u64) -> String {
    let mut table = Table::new(&[
        ("INSTANCE", Align::Left),
        ("STATE", Align::Left),
        ("HEALTH", Align::Left),
        ("AGE", Align::Right),
        ("RESTARTS", Align::Right),
        ("PID", Align::Right),
        ("PORTS", Align::Left),
        ("MESSAGE", Align::Left),
    ]);
    let mut empty = true;
    for service in &status.services {
        let mut published: Vec<String> = status
            .published
            .iter()
            .filter(|port| port.service == service.name)
            .map(|port| format!("{}->{}", port.listen, port.target))
            .collect();
        if service.instances.is_empty() && service.wanted == 0 {
            let text = |text: &str| Cell::painted(text, Paint::Dim);
            table.row([text(service.name.as_str()), text("stopped")]);
            empty = false;
        }
        let mut unserved: Vec<String> = status
            .published
            .iter()
            .filter(|port| port.service == service.name)
            .filter_map(|port| port.message.as_ref().map(|message| harmless(message, false)))
            .collect();
        for instance in &service.instances {
            let (state, paint) = state_of(instance);
            let (health, health_paint) = health_of(instance);
            // Ports belong to the service: they are shown once.
            let ports = std::mem::take(&mut published).join(", ");
            let mut messages = std::mem::take(&mut unserved);
            messages.extend(Some(message_of(instance, &service.waits_for)).filter(|text| !text.is_empty()));
            let restarts = if instance.restarts > 0 { Paint::Warn } else { Paint::Plain };
            table.row([
                Cell::from(instance.name.as_str()),
                Cell::painted(state, paint),
                Cell::painted(health, health_paint),
                age_of(instance, now_unix_ms).into(),
                Cell::painted(instance.restarts.to_string(), restarts),
                instance.service_pid.map(|pid| pid.to_string()).unwrap_or_default().into(),
                ports.into(),
                messages.join("; ").into(),
            ]);
            empty = false;
        }
    }
    if empty { "no instances\n".to_owned() } else { table.render(terminal) }
}

fn age_of(instance: &InstanceStatus, now_unix_ms: u64) -> String {
    match (instance.state, instance.started_unix_ms) {
        (InstanceState::Waiting | InstanceState::Stopped | InstanceState::Exited, _) | (_, None) => {
            String::new()
        }
        (_, Some(started)) => age(started, now_unix_ms),
    }
}

fn message_of(instance: &InstanceStatus, waits_for: &[String]) -> String {
    if let Some(message) = &instance.message {
        return harmless(message, false);
    }
    match (instance.state, instance.exit_code) {
        (InstanceState::Waiting, _) if !waits_for.is_empty() => format!("waits for {}", waits_for.join(", ")),
        (InstanceState::Exited, Some(code)) if code != 0 => format!("exit code {code}"),
        (InstanceState::Backoff, Some(code)) => format!("exit code {code}; is tried again"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::sample;

    #[test]
    fn shows_each_instance_and_what_is_the_matter() {
        assert_eq!(
            render(&sample::shop(), &Terminal::plain(), sample::NOW),
            "INSTANCE   STATE      HEALTH       AGE  RESTARTS   PID  PORTS                 MESSAGE\n\
             db-1       running    healthy    3m 5s         0  1003\n\
             orders-1   running    healthy      40s         0  1013  127.0.0.1:8080->8000\n\
             orders-2   running    unhealthy    40s         2  1023                        HTTP 503 from :8000/health\n\
             billing-1  waiting                             0                              waits for orders (healthy)\n\
             migrate-1  completed                           0\n"
        );
    }

    #[test]
    fn what_was_stopped_is_not_forgotten() {
        let mut status = sample::shop();
        status.services.truncate(1);
        (status.services[0].wanted, status.services[0].instances) = (0, Vec::new());
        assert_eq!(render(&status, &Terminal::plain(), sample::NOW), "INSTANCE  STATE\ndb        stopped\n");
    }

    #[test]
    fn nothing_is_said_too() {
        let status = ApplicationStatus { services: Vec::new(), ..sample::shop() };
        assert_eq!(render(&status, &Terminal::plain(), sample::NOW), "no instances\n");
    }
}
