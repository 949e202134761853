// Draws what /v1/status/watch sends each second. Nothing is made anew that is there already: with a thousand
// servers a second's changes are a few cells.
"use strict";

const at = (id) => document.getElementById(id);
const none = "–";

const rate = (n) => (n >= 1000 ? Math.round(n).toLocaleString("en") : n >= 10 ? n.toFixed(0) : n > 0 ? n.toFixed(n < 1 ? 2 : 1) : "0");
const count = (n) => n.toLocaleString("en");
const percent = (p) => (p === null ? none : `${Math.round(p * 100)} %`);
function time(s) {
  if (s === null) return none;
  if (s < 0.001) return `${Math.round(s * 1e6)} µs`;
  if (s < 1) return `${(s * 1e3).toPrecision(2) * 1} ms`;
  return `${s.toPrecision(3) * 1} s`;
}
function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (n >= 1024 && unit < units.length - 1) { n /= 1024; unit++; }
  return `${n >= 100 || unit === 0 ? Math.round(n) : n.toFixed(1)} ${units[unit]}`;
}
function span(s) {
  if (s < 0) return "over";
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([size]) => s >= size);
  if (first < 0) return "0 s";
  const [size, unit] = parts[first];
  const whole = `${Math.floor(s / size)} ${unit}`;
  const next = parts[first + 1];
  const rest = next ? Math.floor((s % size) / next[0]) : 0;
  return rest && size > 60 ? `${whole} ${rest} ${next[1]}` : whole;
}

const tone = { ready: "good", trial: "fair", drain: "fair", maintenance: "fair", ejected: "bad", unfit: "bad", unreachable: "bad" };
const word = "word";
const alarm = (n) => (n > 0 ? "bad" : "");

function put(node, text, kind) {
  if (node.textContent !== text) node.textContent = text;
  if (kind !== undefined && node.className !== kind) node.className = kind;
}

// What is renewed by itself is late only at the very end.
function urgency({ expires, is_renewed }) {
  const days = (expires - now) / 86400;
  const [late, soon] = is_renewed ? [1, 2] : [7, 21];
  return days < late ? "bad" : days < soon ? "fair" : "";
}

// A table whose columns are [heading, text of a row, class of a row], kept by key.
class Table {
  constructor(table, columns, key) {
    this.columns = columns;
    this.key = key;
    this.rows = new Map();
    const head = table.createTHead().insertRow();
    for (const [name, , kind, heading] of columns) {
      const cell = document.createElement("th");
      cell.textContent = name;
      if (kind === word || heading) cell.className = word;
      head.append(cell);
    }
    this.body = table.createTBody();
  }

  draw(rows) {
    const seen = new Set();
    for (const row of rows) {
      const key = this.key(row);
      seen.add(key);
      let line = this.rows.get(key);
      if (!line) {
        line = this.body.insertRow();
        for (let n = 0; n < this.columns.length; n++) line.insertCell();
        this.rows.set(key, line);
      }
      this.columns.forEach(([, text, kind], n) => {
        put(line.cells[n], text(row), kind === word ? word : kind ? kind(row).trim() : "");
      });
    }
    for (const [key, line] of this.rows) {
      if (!seen.has(key)) { line.remove(); this.rows.delete(key); }
    }
  }
}

const tables = {
  sites: new Table(at("sites"), [
    ["site", (s) => s.name],
    ["requests/s", (s) => rate(s.request_rate)],
    ["errors/s", (s) => rate(s.error_rate), (s) => alarm(s.error_rate)],
    ["p50", (s) => time(s.p50)],
    ["p90", (s) => time(s.p90)],
    ["p99", (s) => time(s.p99)],
    ["limited/s", (s) => rate(s.limited_rate), (s) => (s.limited_rate > 0 ? "fair" : "")],
    ["requests", (s) => count(s.requests)],
  ], (s) => s.name),
  listeners: new Table(at("listeners"), [
    ["address", (l) => l.address],
    ["kind", (l) => l.kind, word],
    ["connections", (l) => count(l.connections)],
    ["busy", (l) => count(l.active)],
    ["new/s", (l) => rate(l.accept_rate)],
    ["refused/s", (l) => rate(l.refuse_rate), (l) => alarm(l.refuse_rate)],
    ["relayed in/s", (l) => bytes(l.in_rate)],
    ["relayed out/s", (l) => bytes(l.out_rate)],
  ], (l) => `${l.address} ${l.kind}`),
  caches: new Table(at("caches"), [
    ["cache", (c) => c.name],
    ["requests/s", (c) => rate(c.request_rate)],
    ["hits", (c) => percent(c.hit_ratio)],
    ["stored", (c) => bytes(c.bytes)],
    ["room", (c) => bytes(c.max_bytes)],
    ["URLs", (c) => count(c.keys)],
  ], (c) => c.name),
  certificates: new Table(at("certificates"), [
    ["certificate", (c) => c.file],
    ["good for", (c) => span(c.expires - now), urgency],
    ["until", (c) => new Date(c.expires * 1000).toISOString().slice(0, 16).replace("T", " ") + " UTC"],
  ], (c) => c.file),
};

const serverColumns = [
  ["server", (s) => s.name],
  ["state", (s) => (s.state !== "ready" && s.checks.why ? `${s.state}: ${s.checks.why}` : s.state), (s) => `word ${tone[s.state] || ""}`, "word"],
  ["weight", (s) => (s.share_percent < 100 ? `${s.weight} at ${s.share_percent} %` : `${s.weight}`)],
  ["requests/s", (s) => rate(s.request_rate)],
  ["errors/s", (s) => rate(s.error_rate), (s) => alarm(s.error_rate)],
  ["now", (s) => (s.max_connections === null ? count(s.in_flight) : `${count(s.in_flight)} of ${count(s.max_connections)}`), (s) => (s.in_flight === s.max_connections ? "fair" : "")],
  ["checks failed", ({ checks }) => (checks.passed + checks.failed ? `${count(checks.failed)} of ${count(checks.passed + checks.failed)}` : none)],
  ["ejected", (s) => count(s.ejections)],
  ["requests", (s) => count(s.requests)],
];

let now = 0;
const pools = new Map();

function makePool(pool) {
  const box = document.createElement("details");
  box.open = pool.servers.length <= 30;
  const summary = document.createElement("summary");
  const name = document.createElement("b");
  name.textContent = pool.name;
  summary.append(name);
  const facts = Array.from({ length: 7 }, () => summary.appendChild(document.createElement("span")));
  const table = document.createElement("table");
  box.append(summary, table);
  at("pools").append(box);
  return { box, facts, table: new Table(table, serverColumns, (s) => s.name) };
}

function drawPool(pool, wanted) {
  let made = pools.get(pool.name);
  if (!made) pools.set(pool.name, (made = makePool(pool)));
  const { box, facts, table } = made;
  const down = pool.servers.length - pool.serving;
  put(facts[0], `${count(pool.serving)} of ${count(pool.servers.length)} ready`, down === 0 ? "" : pool.serving ? "fair" : "bad");
  put(facts[1], pool.balance);
  put(facts[2], `${rate(pool.request_rate)} requests/s`);
  put(facts[3], `${rate(pool.error_rate)} errors/s`, alarm(pool.error_rate));
  put(facts[4], `first byte p50 ${time(pool.p50)}, p99 ${time(pool.p99)}`);
  put(facts[5], pool.waiting ? `${count(pool.waiting)} wait` : "", "fair");
  put(facts[6], pool.retry_rate ? `${rate(pool.retry_rate)} retries/s` : "", "fair");
  const fits = (text) => text.toLowerCase().includes(wanted);
  const all = !wanted || fits(pool.name);
  const shown = all ? pool.servers : pool.servers.filter((s) => fits(s.name) || fits(s.state));
  box.hidden = shown.length === 0 && !all;
  if (wanted && !all) box.open = true;
  // What is folded away is not drawn.
  if (box.open) table.draw(shown);
}

function drawPools(view) {
  const wanted = at("filter").value.trim().toLowerCase();
  for (const pool of view.pools) drawPool(pool, wanted);
  for (const [name, { box }] of pools) {
    if (!view.pools.some((pool) => pool.name === name)) { box.remove(); pools.delete(name); }
  }
}

// Two lines over the last five minutes, the second one on the scale of the first.
function plot(svg, first, second, kind, text) {
  const [width, height] = [300, 100];
  const top = Math.max(...first, ...second, 0) || 1;
  const line = (values, name) => {
    const points = values.map((value, n) => `${width - values.length + n},${(height - 4 - (value / top) * (height - 18)).toFixed(1)}`);
    return `<polyline class="${name}" points="${points.join(" ")}"/>`;
  };
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.innerHTML = `<line x1="0" y1="14" x2="${width}" y2="14"/><line x1="0" y1="96" x2="${width}" y2="96"/>${line(second, `second ${kind}`)}${line(first, "first")}`;
  const label = `up to ${text(Math.max(...first, ...second, 0))}`;
  svg.setAttribute("aria-label", label);
  let note = svg.parentElement.querySelector("small");
  if (!note) svg.parentElement.querySelector("figcaption").append(" ", (note = document.createElement("small")));
  put(note, label);
}

let history = [];

function remember(view) {
  history.push({ now: view.now, connections: view.connections, ...view.traffic });
  history = history.slice(-300);
  const of = (name) => history.map((point) => point[name] || 0);
  plot(at("rates"), of("request_rate"), of("error_rate"), "errors", (n) => `${rate(n)}/s`);
  plot(at("times"), of("p50"), of("p99"), "p99", time);
}

let last = null;

function draw(view) {
  last = view;
  now = view.now;
  const { traffic } = view;
  put(at("node"), view.node);
  put(at("about"), `version ${view.version}, configuration ${view.generation}, ${view.workers} workers, up ${span(view.now - view.started)}`);
  put(at("requests"), rate(traffic.request_rate));
  put(at("errors"), rate(traffic.error_rate));
  at("errors").parentElement.className = alarm(traffic.error_rate);
  put(at("p50"), time(traffic.p50));
  put(at("p99"), time(traffic.p99));
  put(at("connections"), count(view.connections));
  const servers = view.pools.reduce((sum, pool) => sum + pool.servers.length, 0);
  const serving = view.pools.reduce((sum, pool) => sum + pool.serving, 0);
  put(at("serving"), `${count(serving)}/${count(servers)}`);
  at("serving").parentElement.className = alarm(servers - serving);
  for (const [name, table] of Object.entries(tables)) {
    at(name).closest("section").hidden = view[name].length === 0;
    table.draw(view[name]);
  }
  drawPools(view);
}

at("filter").addEventListener("input", () => last && drawPools(last));
at("pools").addEventListener("toggle", () => last && drawPools(last), true);

async function begin() {
  try {
    history = await (await fetch("v1/status/history")).json();
  } catch { /* the watch says so, too */ }
  const source = new EventSource("v1/status/watch");
  source.onmessage = ({ data }) => {
    const view = JSON.parse(data);
    draw(view);
    remember(view);
    put(at("line"), "live", "good");
  };
  source.onerror = () => put(at("line"), "connection lost; trying again", "lost");
}
begin();
