// The page: listens to /events and draws what comes. No packages, nothing from outside.

const KINDS = ["stuck", "drift", "spike", "dropout", "duplicate", "out_of_order", "clock_step"];
const POINTS = 150;
const WIDTH = 300;
const HEIGHT = 110;

const byId = (id) => document.getElementById(id);
const cards = new Map();
/** device -> what the model said, by sequence number: kept here, the history keeps readings only. */
const estimates = new Map();

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function words(kind) {
  return kind.replaceAll("_", " ");
}

function card(device) {
  let made = cards.get(device.device);
  if (!made) {
    made = element("article", { className: "device" });
    made.innerHTML = `
      <div class="top"><h2></h2><span class="badges"></span></div>
      <p class="value"><span></span> <small>°C</small></p>
      <svg viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" role="img">
        <path class="model"/><path class="reading"/>
      </svg>
      <dl><div><dt>power</dt> <dd class="power"></dd></div><div><dt>load</dt> <dd class="load"></dd></div>
      <div><dt>door</dt> <dd class="door"></dd></div><div><dt>range</dt> <dd class="range"></dd></div></dl>`;
    made.querySelector("h2").textContent = device.device;
    cards.set(device.device, made);
    byId("devices").append(made);
  }
  return made;
}

function remember(device) {
  const kept = estimates.get(device.device) ?? { boot: device.boot, points: [] };
  if (kept.boot !== device.boot) Object.assign(kept, { boot: device.boot, points: [] });
  if (device.celsius_estimated !== null && kept.points.at(-1)?.[0] !== device.sequence) {
    kept.points.push([device.sequence, device.celsius_estimated]);
  }
  kept.points = kept.points.slice(-POINTS);
  estimates.set(device.device, kept);
  return kept.points;
}

function line(points, x, y) {
  return points.map(([at, value], i) => `${i ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`).join("");
}

function draw(device) {
  const made = card(device);
  const sorted = [...(device.series ?? [])].sort((a, b) => a[0] - b[0]);
  const end = sorted.at(-1)?.[0] ?? 0;
  const recent = ([at]) => at > end - POINTS;
  const readings = sorted.filter(recent);
  const model = remember(device).filter(recent);
  const values = [...readings, ...model].map(([, value]) => value);
  const low = Math.min(...values, Infinity);
  const high = Math.max(...values, -Infinity);
  const x = (at) => WIDTH - ((end - at) / POINTS) * WIDTH;
  const y = (value) => 4 + (1 - (value - low) / Math.max(high - low, 0.5)) * (HEIGHT - 8);
  made.querySelector(".reading").setAttribute("d", line(readings, x, y));
  made.querySelector(".model").setAttribute("d", line(model, x, y));
  made.querySelector(".value span").textContent = device.celsius?.toFixed(2) ?? "–";
  made.querySelector(".power").textContent = device.power === undefined ? "–" : `${Math.round(device.power * 100)} %`;
  made.querySelector(".load").textContent = device.load === undefined ? "–" : `${Math.round(device.load * 100)} %`;
  made.querySelector(".door").textContent = device.kind === "freezer" ? (device.door ? "open" : "closed") : "–";
  made.querySelector(".range").textContent = values.length ? `${low.toFixed(1)} to ${high.toFixed(1)} °C` : "–";
  made.querySelector("svg").setAttribute("aria-label", `${device.device}: readings and model, ${low} to ${high} °C`);
  made.classList.toggle("open", device.open.length > 0);
  made.querySelector(".badges").replaceChildren(
    ...device.open.map((kind) => element("span", { className: "badge", textContent: words(kind) })),
  );
}

function drawNotices(notices) {
  byId("notices").replaceChildren(
    ...notices.map((notice) => {
      const told = new Date(notice.told_unix_ms);
      const action = notice.taken_unix_ms
        ? element("span", { className: "taken", textContent: "taken" })
        : element("button", { textContent: "take", onclick: () => take(notice.id) });
      const detail = `${words(notice.kind)}: ${notice.detail}${notice.over ? "" : " (now)"}`;
      return element(
        "li",
        {},
        element("time", { textContent: told.toLocaleTimeString() }),
        element("span", { textContent: notice.device }),
        element("span", { textContent: detail }),
        action,
      );
    }),
  );
}

async function take(id) {
  await fetch(`api/notices/${encodeURIComponent(id)}/take`, { method: "POST" }).catch(() => {});
}

/** Counts of alarms beside what the simulators say; asked after the alarms were counted, so that none is ahead. */
async function drawCounts(devices, counts) {
  const answer = await fetch("api/truth").catch(() => null);
  const truth = answer?.ok ? (await answer.json()).devices : [];
  const head = element("tr", {}, element("th"), ...devices.map((d) => element("th", { textContent: d.device })));
  const rows = KINDS.map((kind) => {
    const cells = devices.map(({ device, boot }) => {
      const found = counts.find((c) => c.device === device && c.boot === boot && c.kind === kind)?.count ?? 0;
      const made = truth.find((t) => t.device === device && t.boot === boot)?.labels.filter((l) => l.kind === kind).length;
      const equal = made !== undefined && made === found;
      return element("td", { textContent: made === undefined ? found : `${found} / ${made}`, className: equal ? "equal" : "" });
    });
    return element("tr", {}, element("th", { textContent: words(kind) }), ...cells);
  });
  byId("counts").replaceChildren(element("thead", {}, head), element("tbody", {}, ...rows));
}

function show(overview) {
  const missing = overview.missing ?? [];
  const state = byId("state");
  state.classList.toggle("live", missing.length === 0);
  state.textContent = missing.length ? `no word from ${missing.join(", ")}` : "live";
  if (!overview.devices) return;
  overview.devices.forEach(draw);
  if (!missing.includes("notification")) drawNotices(overview.notices);
  if (!missing.includes("alarms")) drawCounts(overview.devices, overview.counts);
  const at = overview.devices.find((device) => device.at_unix_ms && !device.open.includes("clock_step"))?.at_unix_ms;
  if (at) byId("clock").textContent = `plant time ${new Date(at).toLocaleString(undefined, { weekday: "short", hour: "2-digit", minute: "2-digit" })}`;
}

const events = new EventSource("events");
events.onmessage = (event) => {
  const overview = JSON.parse(event.data);
  if (overview) show(overview);
};
events.onerror = () => {
  byId("state").classList.remove("live");
  byId("state").textContent = "connecting";
};
