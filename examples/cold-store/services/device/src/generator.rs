//! The physics and the faults of one device: a first-order thermal model, sensor noise, a shift cycle, and in every
//! cycle of [`CYCLE`] samples each kind of fault once, in an order and at places drawn from the seed. No I/O, no clock:
//! the same seed and the same commands give the same telemetry.

use std::collections::VecDeque;

use serde::Serialize;

/// Samples of one fault cycle: a minute at 200 ms.
pub const CYCLE: u64 = 300;
/// Samples at the start of a cycle without a fault.
const QUIET: u64 = 20;
/// Samples that belong to one fault: at least [`GUARD`] healthy ones, then the fault.
const SLOT: u64 = 40;
const GUARD: u64 = 12;
/// Plant time between two samples: a shift of eight hours passes in 48 s.
pub const PERIOD_MS: u64 = 120_000;
/// Samples of a shift, its break at the end included.
const SHIFT: u64 = 240;
const BREAK: u64 = 40;
const LABELS_MAX: usize = 2_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The sensor repeats its last reading.
    Stuck,
    /// The reading leaves the truth slowly, then comes back at once (somebody calibrated it).
    Drift,
    /// One or two readings far off.
    Spike,
    /// Readings are missing.
    Dropout,
    /// A reading is sent two or three times.
    Duplicate,
    /// A reading is sent after its successors.
    OutOfOrder,
    /// The clock jumps, and is set right later.
    ClockStep,
}

const FAULTS: [Fault; 7] = [
    Fault::Stuck,
    Fault::Drift,
    Fault::Spike,
    Fault::Dropout,
    Fault::Duplicate,
    Fault::OutOfOrder,
    Fault::ClockStep,
];

/// The truth about one fault: what an alarm is compared with.
#[derive(Clone, Debug, Serialize)]
pub struct Label {
    pub id: String,
    pub device: String,
    pub boot: u64,
    pub kind: Fault,
    /// Sequence numbers of the first and the last sample concerned.
    pub first: u64,
    pub last: u64,
}

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Counts what is sent, without a gap: a hole in it was made by the transport.
    pub message: u64,
    /// Counts what is measured: a hole in it was made by the sensor.
    pub sequence: u64,
    pub at_unix_ms: u64,
    pub millicelsius: i64,
    pub power: f64,
    pub door: u8,
    pub load: f64,
}

/// `next = now + (target - now) / lag`, where `target = base + power*.. + door*.. + load*..`.
#[derive(Clone, Copy, Debug)]
pub struct Physics {
    pub lag: f64,
    pub base: f64,
    pub power: f64,
    pub door: f64,
    pub load: f64,
    pub start: f64,
    pub start_power: f64,
    /// The chance per working sample that somebody opens the door.
    pub door_chance: f64,
}

impl Physics {
    pub fn of(kind: &str) -> Option<Self> {
        match kind {
            // -20 degrees at rest; a working shift and open doors ask for more power.
            "freezer" => Some(Self {
                lag: 40.0,
                base: 4.0,
                power: -32.0,
                door: 6.0,
                load: 4.0,
                start: -20.0,
                start_power: 0.75,
                door_chance: 0.06,
            }),
            // The motor of the belt: too warm at full speed and full load.
            "conveyor" => Some(Self {
                lag: 25.0,
                base: 22.0,
                power: 35.0,
                door: 0.0,
                load: 12.0,
                start: 50.0,
                start_power: 0.9,
                door_chance: 0.0,
            }),
            _ => None,
        }
    }
}

struct Plan {
    kind: Fault,
    first: u64,
    last: u64,
    /// Degrees, degrees per sample, milliseconds, copies or samples late: by kind.
    size: f64,
}

pub struct Generator {
    device: String,
    boot: u64,
    physics: Physics,
    random: Random,
    epoch_unix_ms: u64,
    sequence: u64,
    message: u64,
    truth: f64,
    door_open: u64,
    last_millicelsius: i64,
    plans: VecDeque<Plan>,
    /// A reading that is sent late, and the sequence number after which it is.
    held: Option<(u64, Reading)>,
    labels: VecDeque<Label>,
    labels_total: u64,
}

impl Generator {
    pub fn new(device: &str, physics: Physics, seed: u64, boot: u64, epoch_unix_ms: u64) -> Self {
        Self {
            device: device.to_owned(),
            boot,
            physics,
            random: Random(seed),
            epoch_unix_ms,
            sequence: 0,
            message: 0,
            truth: physics.start,
            door_open: 0,
            last_millicelsius: i64::MIN,
            plans: VecDeque::new(),
            held: None,
            labels: VecDeque::new(),
            labels_total: 0,
        }
    }

    /// The faults that began so far (the newest [`LABELS_MAX`]).
    pub fn labels(&self) -> impl Iterator<Item = &Label> {
        self.labels.iter()
    }

    pub fn labels_total(&self) -> u64 {
        self.labels_total
    }

    /// The next sample's number.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Measures once. Returns what is sent: nothing, one reading or several.
    pub fn tick(&mut self, power: f64) -> Vec<Reading> {
        let sequence = self.sequence;
        self.sequence += 1;
        if sequence.is_multiple_of(CYCLE) {
            self.plan(sequence);
        }
        let (door, load) = self.shift(sequence);
        let fault = self.fault(sequence);
        let reading = self.measure(sequence, fault.as_ref(), power, door, load);
        self.advance(power, door, load);
        self.send(sequence, fault.as_ref(), reading)
    }

    /// Places each fault once in the cycle that begins at `start`.
    fn plan(&mut self, start: u64) {
        let mut kinds = FAULTS;
        for i in (1..kinds.len()).rev() {
            kinds.swap(i, self.random.below(i as u64 + 1) as usize);
        }
        for (slot, kind) in kinds.into_iter().enumerate() {
            let sign = if self.random.below(2) == 0 { 1.0 } else { -1.0 };
            let unit = self.random.unit();
            let (length, size) = match kind {
                Fault::Stuck => (10 + self.random.below(8), 0.0),
                Fault::Drift => (20 + self.random.below(5), sign * (0.07 + 0.03 * unit)),
                Fault::Spike => (1 + self.random.below(2), sign * (4.0 + 3.0 * unit)),
                Fault::Dropout => (4 + self.random.below(5), 0.0),
                Fault::Duplicate => (1, (2 + self.random.below(2)) as f64),
                Fault::OutOfOrder => (1, (1 + self.random.below(3)) as f64),
                Fault::ClockStep => (12 + self.random.below(8), sign * (600_000.0 + 3_000_000.0 * unit)),
            };
            let offset = GUARD + self.random.below(SLOT - GUARD - length + 1);
            let first = start + QUIET + slot as u64 * SLOT + offset;
            self.plans.push_back(Plan { kind, first, last: first + length - 1, size });
        }
    }

    /// Door and load by the shift cycle: early, late and night shift, a break at the end of each.
    fn shift(&mut self, sequence: u64) -> (u8, f64) {
        let working = sequence % SHIFT < SHIFT - BREAK;
        let load = if working { [1.0, 0.8, 0.2][(sequence / SHIFT % 3) as usize] } else { 0.0 };
        if self.door_open > 0 {
            self.door_open -= 1;
        } else if working && self.random.unit() < self.physics.door_chance {
            self.door_open = 2 + self.random.below(3);
        }
        (u8::from(self.door_open > 0), load)
    }

    /// The fault that concerns this sample; its label is written when it begins.
    fn fault(&mut self, sequence: u64) -> Option<Plan> {
        if self.plans.front().is_some_and(|plan| plan.last < sequence) {
            self.plans.pop_front();
        }
        let plan = self.plans.front().filter(|plan| plan.first <= sequence)?;
        if plan.first == sequence {
            self.labels_total += 1;
            if self.labels.len() == LABELS_MAX {
                self.labels.pop_front();
            }
            self.labels.push_back(Label {
                id: format!("{}-{}", self.device, self.labels_total),
                device: self.device.clone(),
                boot: self.boot,
                kind: plan.kind,
                first: plan.first,
                last: plan.last,
            });
        }
        Some(Plan { ..*plan })
    }

    fn measure(&mut self, sequence: u64, fault: Option<&Plan>, power: f64, door: u8, load: f64) -> Reading {
        let noise = 0.1 * (self.random.signed() + self.random.signed() + self.random.signed()) / 3.0;
        let mut celsius = self.truth + noise;
        let mut at_unix_ms = self.epoch_unix_ms + sequence * PERIOD_MS + self.random.below(400);
        match fault {
            Some(Plan { kind: Fault::Drift, first, size, .. }) => {
                celsius += size * (sequence - first + 1) as f64
            }
            Some(Plan { kind: Fault::Spike, size, .. }) => celsius += size,
            Some(Plan { kind: Fault::ClockStep, size, .. }) => {
                at_unix_ms = at_unix_ms.saturating_add_signed(*size as i64)
            }
            _ => {}
        }
        let mut millicelsius = (celsius * 1000.0).round() as i64;
        if fault.is_some_and(|plan| plan.kind == Fault::Stuck) {
            millicelsius = self.last_millicelsius;
        } else if millicelsius == self.last_millicelsius {
            // The last digit of a healthy sensor is never at rest.
            millicelsius += 1;
        }
        self.last_millicelsius = millicelsius;
        Reading { message: 0, sequence, at_unix_ms, millicelsius, power, door, load }
    }

    /// One step of the thermal model, with a small disturbance that nobody measures.
    fn advance(&mut self, power: f64, door: u8, load: f64) {
        let p = &self.physics;
        let target = p.base + p.power * power + p.door * f64::from(door) + p.load * load;
        self.truth += (target - self.truth) / p.lag + 0.01 * self.random.signed();
    }

    fn send(&mut self, sequence: u64, fault: Option<&Plan>, reading: Reading) -> Vec<Reading> {
        let mut sent = match fault {
            Some(Plan { kind: Fault::Dropout, .. }) => Vec::new(),
            Some(Plan { kind: Fault::Duplicate, size, .. }) => vec![reading; *size as usize],
            Some(Plan { kind: Fault::OutOfOrder, size, .. }) => {
                self.held = Some((sequence + *size as u64, reading));
                Vec::new()
            }
            _ => vec![reading],
        };
        if self.held.as_ref().is_some_and(|(after, _)| *after == sequence) {
            sent.extend(self.held.take().map(|(_, reading)| reading));
        }
        for reading in &mut sent {
            self.message += 1;
            reading.message = self.message;
        }
        sent
    }
}

/// SplitMix64: small, fast, the same everywhere.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 to `bound - 1`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// 0 to 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// -1 to 1.
    fn signed(&mut self) -> f64 {
        2.0 * self.unit() - 1.0
    }
}

#[cfg(test)]
mod tests;
