//! device: one machine of the plant. It measures, publishes JSON over MQTT (QoS 1), obeys the actuator, keeps its last
//! messages for whoever missed some, and tells at `/labels` which faults it produced.
//!
//! `device --offline N` prints N samples and then the labels, without any network: for the tests of the detector.

mod generator;

use std::collections::VecDeque;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use common::{child_trace, log, new_trace, setting, stopped, unix_ms};
use generator::{Generator, Physics, Random, Reading};
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, NetworkOptions, Packet, QoS};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval, sleep};

/// Messages kept for those who missed some: minutes.
const KEPT_MAX: usize = 2_000;
/// Messages waiting for the broker.
const WAITING_MAX: usize = 500;
/// Messages in one answer of `/messages`.
const ANSWER_MAX: usize = 200;
const COMMAND_PERIOD: Duration = Duration::from_millis(500);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);
const RECONNECT: Duration = Duration::from_millis(100);

struct Device {
    name: String,
    kind: String,
    boot: u64,
    state: Mutex<Running>,
}

struct Running {
    generator: Generator,
    power: f64,
    kept: VecDeque<(u64, Value)>,
}

impl Device {
    fn running(&self) -> MutexGuard<'_, Running> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Each kind of machine speaks as its maker liked: the ingest makes one language of it.
    fn message(&self, reading: &Reading, trace: &str) -> Value {
        let mut message = json!({
            "device": self.name,
            "kind": self.kind,
            "boot": self.boot,
            "message": reading.message,
            "sequence": reading.sequence,
            "at_unix_ms": reading.at_unix_ms,
            "power": reading.power,
            "load": reading.load,
            "traceparent": trace,
        });
        match self.kind.as_str() {
            "conveyor" => message["motor_millicelsius"] = reading.millicelsius.into(),
            _ => {
                message["celsius"] = (reading.millicelsius as f64 / 1000.0).into();
                message["door"] = if reading.door == 1 { "open" } else { "closed" }.into();
            }
        }
        message
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let name = setting("DEVICE", "freezer-1");
    let kind = setting("KIND", "freezer");
    let (Some(physics), Ok(seed), Ok(tick_ms @ 1..)) =
        (Physics::of(&kind), setting("SEED", "1").parse::<u64>(), setting("TICK_MS", "200").parse::<u64>())
    else {
        log(
            "misconfigured",
            None,
            json!({ "error": "KIND is freezer or conveyor, SEED and TICK_MS are numbers" }),
        );
        return ExitCode::from(2);
    };
    let offline = offline_samples();
    let boot = if offline.is_some() { 1 } else { unix_ms() };
    let device = Arc::new(Device {
        state: Mutex::new(Running {
            generator: Generator::new(&name, physics, seed, boot, boot),
            power: physics.start_power,
            kept: VecDeque::new(),
        }),
        name,
        kind,
        boot,
    });
    match offline {
        Some(samples) => {
            print_samples(&device, samples, seed);
            ExitCode::SUCCESS
        }
        None => run(device, tick_ms).await,
    }
}

async fn run(device: Arc<Device>, tick_ms: u64) -> ExitCode {
    let listen = setting("LISTEN", "0.0.0.0:8000");
    let listener = match tokio::net::TcpListener::bind(&listen).await {
        Ok(listener) => listener,
        Err(error) => {
            log("failed", None, json!({ "error": format!("could not listen on {listen}: {error}") }));
            return ExitCode::FAILURE;
        }
    };
    let routes = Router::new()
        .route("/health", get(|| async { "ok\n" }))
        .route("/labels", get(labels))
        .route("/messages", get(messages))
        .with_state(device.clone());

    let broker = setting("BROKER", "broker:8000");
    let (host, port) = host_and_port(&broker);
    let mut options = MqttOptions::new(&device.name, host, port);
    options.set_keep_alive(Duration::from_secs(10)).set_clean_session(false).set_inflight(50);
    let (client, mut connection) = AsyncClient::new(options, WAITING_MAX);
    let mut network = NetworkOptions::new();
    network.set_connection_timeout(2);
    connection.set_network_options(network);

    log("listening", None, json!({ "listen": listen, "device": device.name, "boot": device.boot }));
    tokio::select! {
        _ = axum::serve(listener, routes) => {}
        () = keep_connected(connection) => {}
        () = obey(device.clone()) => {}
        () = measure(device.clone(), client, tick_ms) => {}
        () = stopped() => {}
    }
    log("stopped", None, json!({ "device": device.name }));
    ExitCode::SUCCESS
}

async fn measure(device: Arc<Device>, client: AsyncClient, tick_ms: u64) {
    let topic = format!("telemetry/{}", device.name);
    let mut ticks = interval(Duration::from_millis(tick_ms));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut running = device.running();
        let power = running.power;
        let labelled = running.generator.labels_total();
        for reading in running.generator.tick(power) {
            let message = device.message(&reading, &new_trace());
            if running.kept.len() == KEPT_MAX {
                running.kept.pop_front();
            }
            // A full queue drops nothing for good: the message is kept, the adapter sees the gap and asks for it.
            let _ = client.try_publish(&topic, QoS::AtLeastOnce, false, message.to_string());
            running.kept.push_back((reading.message, message));
        }
        if running.generator.labels_total() > labelled
            && let Some(label) = running.generator.labels().last()
        {
            log("fault", None, json!(label));
        }
    }
}

/// Drives the MQTT connection; on an error the next poll connects anew and repeats what was not acknowledged.
async fn keep_connected(mut connection: EventLoop) {
    let mut connected = false;
    loop {
        match connection.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                connected = true;
                log("connected", None, json!({ "to": "broker" }));
            }
            Ok(_) => {}
            Err(error) => {
                if connected {
                    log("disconnected", None, json!({ "from": "broker", "error": error.to_string() }));
                }
                connected = false;
                sleep(RECONNECT).await;
            }
        }
    }
}

/// Fetches what the actuator wants. Without an answer the last command stays in force.
async fn obey(device: Arc<Device>) {
    let actuator = setting("ACTUATOR", "actuator:8000");
    let path = format!("/devices/{}", device.name);
    let mut periods = interval(COMMAND_PERIOD);
    periods.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        periods.tick().await;
        let trace = child_trace(None);
        let Ok((200, body)) = common::get(&actuator, &path, &trace, COMMAND_TIMEOUT).await else { continue };
        let command: Option<Value> = serde_json::from_slice(&body).ok();
        let Some(power) =
            command.as_ref().and_then(|c| c["power"].as_f64()).filter(|p| (0.0..=1.0).contains(p))
        else {
            log("refused", Some(&trace), json!({ "device": device.name, "reason": "an unusable command" }));
            continue;
        };
        let mut running = device.running();
        if running.power != power {
            running.power = power;
            log("obeyed", Some(&trace), json!({ "device": device.name, "power": power }));
        }
    }
}

async fn labels(State(device): State<Arc<Device>>) -> Json<Value> {
    let running = device.running();
    let labels: Vec<_> = running.generator.labels().collect();
    Json(json!({
        "device": device.name,
        "boot": device.boot,
        "sequence": running.generator.sequence(),
        "total": running.generator.labels_total(),
        "labels": labels,
    }))
}

#[derive(Deserialize)]
struct Wanted {
    boot: u64,
    from: u64,
    to: u64,
}

/// The messages `from..=to` of this boot, as far as they are still kept.
async fn messages(State(device): State<Arc<Device>>, Query(wanted): Query<Wanted>) -> Json<Value> {
    let running = device.running();
    let found: Vec<&Value> = running
        .kept
        .iter()
        .filter(|(number, _)| wanted.boot == device.boot && (wanted.from..=wanted.to).contains(number))
        .map(|(_, message)| message)
        .take(ANSWER_MAX)
        .collect();
    Json(json!(found))
}

fn host_and_port(address: &str) -> (&str, u16) {
    address
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host, port.parse().ok()?)))
        .unwrap_or((address, 8000))
}

fn offline_samples() -> Option<u64> {
    let mut arguments = std::env::args().skip(1);
    (arguments.next()? == "--offline").then(|| arguments.next()?.parse().ok())?
}

/// Telemetry as it would be published, one message per line, under commands that change now and then.
fn print_samples(device: &Device, samples: u64, seed: u64) {
    let mut commands = Random(!seed);
    let mut running = device.running();
    for sample in 0..samples {
        if sample % 40 == 39 {
            running.power = [0.5, 0.6, 0.75, 0.9, 1.0][commands.below(5) as usize];
        }
        let power = running.power;
        for reading in running.generator.tick(power) {
            println!(
                "{}",
                device.message(&reading, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
            );
        }
    }
    let labels: Vec<_> = running.generator.labels().collect();
    println!("{}", json!({ "labels": labels }));
}
