// dashboard: one API for the office, composed from historian, rules, notification and, for the comparison of alarms with
// the truth, the devices. Stateless. Node.js without packages; `main.py` is its twin for machines without Node.js.

import http from "node:http";
import { randomBytes } from "node:crypto";

const DEVICES = (process.env.DEVICES ?? "freezer-1,freezer-2,conveyor").split(",");
const TIMEOUT_MS = 3000;
const ANSWER_BYTES_MAX = 8 * 1024 * 1024;
const ALARMS_MAX = 10_000;
const agent = new http.Agent({ keepAlive: true, maxSockets: 32, timeout: 30_000 });

function log(event, trace, fields) {
  const trace_id = trace?.split("-")[1];
  console.log(JSON.stringify({ at_unix_ms: Date.now(), event, ...(trace_id && { trace_id }), ...fields }));
}

/** The caller's trace, or a new one: what is sent on with every call. */
function context(headers) {
  const fits = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/.test(headers.traceparent ?? "");
  const [version, trace, , flags] = fits ? headers.traceparent.split("-") : ["00", randomBytes(16).toString("hex"), "", "01"];
  return {
    traceparent: `${version}-${trace}-${randomBytes(8).toString("hex")}-${flags}`,
    "x-request-id": headers["x-request-id"] ?? randomBytes(8).toString("hex"),
  };
}

class Problem extends Error {
  constructor(status, reason) {
    super(reason);
    this.status = status;
  }
}

/** `call(context, "GET", "historian:8000", "/latest")`: the answer's JSON. Everything called here may be called twice. */
function call(headers, method, host, path, again = true) {
  return new Promise((resolve, reject) => {
    const [hostname, port] = host.split(":");
    const failed = (reason, status = 502) => reject(new Problem(status, `${method} ${host}${path}: ${reason}`));
    const request = http.request({ hostname, port, method, path, headers, agent, timeout: TIMEOUT_MS }, (answer) => {
      const pieces = [];
      let size = 0;
      answer.on("data", (piece) => {
        size += piece.length;
        if (size > ANSWER_BYTES_MAX) request.destroy(new Error("the answer is too long"));
        pieces.push(piece);
      });
      answer.on("error", (error) => failed(error.message));
      answer.on("end", () => {
        const text = Buffer.concat(pieces).toString();
        if (answer.statusCode < 200 || answer.statusCode > 299) {
          return failed(`${answer.statusCode} ${text.slice(0, 200)}`, answer.statusCode === 404 ? 404 : 502);
        }
        try {
          resolve(JSON.parse(text));
        } catch {
          failed("the answer is not JSON");
        }
      });
    });
    request.on("timeout", () => request.destroy(new Error("no answer in time")));
    request.on("error", (error) => {
      // A kept connection that the other side had closed meanwhile.
      if (again && request.reusedSocket) return resolve(call(headers, method, host, path, false));
      failed(error.message);
    });
    request.end();
  });
}

async function overview(headers, query) {
  const points = bounded(query, "points", 1, 1, 300);
  const missing = [];
  const part = (name, otherwise, promise) =>
    promise.catch((error) => {
      missing.push(name);
      log("missing", headers.traceparent, { part: name, error: error.message });
      return otherwise;
    });
  const [latest, judged, counts, notices] = await Promise.all([
    part("historian", {}, call(headers, "GET", "historian:8000", `/latest?points=${points}`)),
    part("rules", [], call(headers, "GET", "rules:8000", "/devices")),
    part("alarms", [], call(headers, "GET", "historian:8000", "/alarms/counts")),
    part("notification", [], call(headers, "GET", "notification:8000", "/notices?limit=30")),
  ]);
  const devices = judged.map((device) => {
    const samples = latest[device.device] ?? [];
    const { celsius, power, door, load, at_unix_ms } = samples.at(-1) ?? {};
    const series = samples.filter((s) => s.boot === device.boot).map((s) => [s.sequence, s.celsius]);
    return { ...device, celsius, power, door, load, at_unix_ms, series };
  });
  return { devices, counts, notices, missing };
}

async function truth(headers) {
  return { devices: await Promise.all(DEVICES.map((device) => call(headers, "GET", `${device}:8000`, "/labels"))) };
}

async function alarms(headers, query) {
  const limit = bounded(query, "limit", ALARMS_MAX, 1, ALARMS_MAX);
  return { alarms: await call(headers, "GET", "historian:8000", `/alarms?limit=${limit}`) };
}

function bounded(query, name, otherwise, least, most) {
  const text = query.get(name) ?? String(otherwise);
  if (!/^-?\d{1,15}$/.test(text)) throw new Problem(400, `${name} is not a whole number`);
  return Math.max(least, Math.min(most, Number(text)));
}

async function route(method, url, headers) {
  const take = /^\/api\/notices\/([^/]+)\/take$/.exec(url.pathname);
  if (take && method === "POST") return call(headers, "POST", "notification:8000", `/notices/${take[1]}/take`);
  const found = { "/api/overview": overview, "/api/alarms": alarms, "/api/truth": truth }[url.pathname];
  if (!found && !take) throw new Problem(404, "no such path");
  if (!found || (method !== "GET" && method !== "HEAD")) throw new Problem(405, "no such method here");
  return found(headers, url.searchParams);
}

let stopping = false;

async function serve(request, response) {
  request.resume(); // nothing here takes a body
  const headers = context(request.headers);
  let status = 200;
  let body;
  let type = "application/json";
  try {
    const url = URL.canParse(request.url, "http://dashboard") ? new URL(request.url, "http://dashboard") : null;
    if (!url) throw new Problem(400, "not a path");
    if (url.pathname === "/health") {
      [body, type] = ["ok\n", "text/plain"];
    } else {
      body = JSON.stringify(await route(request.method, url, headers));
    }
  } catch (error) {
    status = error instanceof Problem ? error.status : 500;
    if (status === 500) log("failed", headers.traceparent, { path: request.url, error: error.message });
    body = JSON.stringify({ error: status === 500 ? "internal error" : error.message });
  }
  if (stopping) response.setHeader("connection", "close");
  response.writeHead(status, { "content-type": type, "content-length": Buffer.byteLength(body) });
  response.end(request.method === "HEAD" ? undefined : body);
}

const [, host, port] = /^\[?([^\]]*)\]?:(\d+)$/.exec(process.env.LISTEN ?? "0.0.0.0:8000") ?? [, "0.0.0.0", "8000"];
const server = http.createServer({ keepAliveTimeout: 75_000, maxHeaderSize: 16_384 }, serve);
server.maxConnections = 256;
server.on("error", (error) => {
  log("failed", null, { error: error.message });
  process.exit(1);
});
server.listen({ host, port: Number(port) }, () => log("listening", null, { listen: `${host}:${port}`, in: "Node.js" }));

function stop() {
  stopping = true;
  server.close(() => {
    log("stopped");
    process.exit(0);
  });
  server.closeIdleConnections();
  setTimeout(() => server.closeAllConnections(), 2000).unref();
}
process.on("SIGTERM", stop);
process.on("SIGINT", stop);
