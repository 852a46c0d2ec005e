// The console: one stream of figures, one of a topic's records. What comes from outside is only ever text (textContent).
"use strict";

const $ = (id) => document.getElementById(id);
const history = { in: [], out: [], stored: [], lag: [], sync: [] };
const points = 120; // two minutes
let before = null; // the figures of a second ago

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

function count(n) { return n >= 100000 ? short.format(n) : whole.format(n); }

function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let u = 0;
  while (n >= 1024 && u < units.length - 1) { n /= 1024; u++; }
  return (u === 0 || n >= 100 ? n.toFixed(0) : n.toFixed(1)) + " " + units[u];
}

function duration(seconds) {
  if (!seconds) return "–";
  if (seconds < 1e-3) return Math.round(seconds * 1e6) + " µs";
  return seconds < 1 ? (seconds * 1e3).toPrecision(2) + " ms" : seconds.toFixed(1) + " s";
}

function smaller(raw, stored) { return raw > 0 && stored > 0 ? (raw / stored).toFixed(1) + "×" : "–"; }

function cell(text, kind) {
  const td = document.createElement("td");
  td.textContent = text;
  if (kind) td.className = kind;
  return td;
}

function row(...cells) {
  const tr = document.createElement("tr");
  tr.append(...cells);
  return tr;
}

// fill replaces a table's rows; while there are none, the hint that came with the page stays.
const hints = {};
function fill(id, rows) {
  const body = $(id);
  hints[id] ??= [...body.children];
  body.replaceChildren(...(rows.length ? rows : hints[id]));
}

function chart(name, value) {
  const h = history[name];
  h.push(value);
  if (h.length > points) h.shift();
  const svg = $(name + "-chart"), ns = "http://www.w3.org/2000/svg";
  const top = Math.max(...h, 1e-9), x = (i) => (i + points - h.length), y = (v) => 40 - (v / top) * 38;
  const line = h.map((v, i) => `${x(i)},${y(v).toFixed(2)}`).join(" ");
  svg.setAttribute("viewBox", `0 0 ${points - 1} 40`);
  if (!svg.firstChild) {
    for (const kind of ["area", "line"]) {
      const p = document.createElementNS(ns, kind === "area" ? "polygon" : "polyline");
      p.setAttribute("class", kind);
      svg.append(p);
    }
  }
  svg.children[0].setAttribute("points", `${x(0)},40 ${line} ${points - 1},40`);
  svg.children[1].setAttribute("points", line);
}

function figure(id, text, note) {
  $(id).textContent = text;
  $(id + "-note").textContent = note;
}

function show(now) {
  const last = before ?? now;
  before = now;
  const seconds = Math.max((Date.parse(now.at) - Date.parse(last.at)) / 1000, 0.001);
  const rate = (a, b) => (now === last ? 0 : Math.max(0, a - b) / seconds);
  const c = now.counters, l = last.counters;

  $("edge").textContent = now.edge;
  $("about").textContent = `${now.version} · up since ${new Date(now.started).toLocaleString()}`;
  document.title = `${now.edge} – Rivulet`;

  const inRate = rate(c.messages_in, l.messages_in), outRate = rate(c.messages_out, l.messages_out);
  figure("in", count(inRate), `${bytes(rate(c.bytes_in, l.bytes_in))}/s · ${count(c.messages_in)} in all`);
  figure("out", count(outRate), `${bytes(rate(c.bytes_out, l.bytes_out))}/s · ${count(c.messages_out)} in all`);
  chart("in", inRate);
  chart("out", outRate);

  let raw = 0, tail = 0, stored = 0;
  for (const t of now.topics) { raw += t.raw_bytes; tail += t.tail_bytes; stored += t.stored_bytes; }
  const sealed = now.store.sealed_bytes;
  $("ratio").textContent = smaller(raw - tail, stored);
  const disk = bytes(now.store.disk_bytes) + (now.store.budget_bytes ? ` of ${bytes(now.store.budget_bytes)}` : "");
  $("stored-note").textContent = `${bytes(raw - tail)} → ${bytes(stored)} · ${bytes(tail)} not sealed yet · ${disk} on the disk`;
  chart("stored", rate(sealed, last.store.sealed_bytes));

  let lag = 0, sent = 0;
  for (const u of now.uplinks) { lag += u.lag; sent += u.records; }
  figure("lag", now.uplinks.length ? count(lag) : "–", now.uplinks.length ? `${count(sent)} records mirrored` : "no uplink");
  chart("lag", lag);

  figure("sync", duration(now.store.sync_p99_seconds), `median ${duration(now.store.sync_p50_seconds)} · ${count(now.store.frames)} commits`);
  chart("sync", rate(now.store.frames, last.store.frames));

  const alarms = [];
  if (now.store.read_only) alarms.push("The store is read-only after a failed journal sync: check the disk, then restart.");
  if (now.store.full) alarms.push(`The store is full and refuses records: ${now.store.full_reason}`);
  for (const u of now.uplinks) if (u.error) alarms.push(`Uplink ${u.name}: ${u.error}`);
  for (const b of now.bridges) if (b.error) alarms.push(`Bridge ${b.name}: ${b.error}`);
  for (const p of now.plugins) if (p.stats.State !== "running") alarms.push(`Plugin ${p.plugin} on ${p.topic} is ${p.stats.State}: ${p.stats.LastError}`);
  $("alarm").hidden = alarms.length === 0;
  $("alarm").textContent = alarms.join(" · ");

  topics(now, last, rate);
  plugins(now);
  uplinks(now);
  bridges(now);
}

function topics(now, last, rate) {
  const old = new Map(last.topics.map((t) => [t.name, t]));
  fill("topics", now.topics.map((t) => {
    const sealed = t.raw_bytes - t.tail_bytes, share = sealed > 0 ? t.stored_bytes / sealed : 0;
    const bar = cell("", "bar"), m = document.createElement("meter");
    m.value = Math.min(share, 1);
    m.title = share ? `${bytes(sealed)} sealed in ${bytes(t.stored_bytes)}` : "nothing is sealed yet";
    bar.append(m, share ? ` ${(share * 100).toFixed(0)} %` : "");
    const gone = Object.entries(t.dropped ?? {}).map(([why, n]) => `${count(n)} by ${why}`).join(", ");
    const tr = row(cell(gone ? `${t.name} (dropped: ${gone})` : t.name), cell(whole.format(t.partitions), "n"), cell(count(t.records), "n"),
      cell(count(rate(t.records, old.get(t.name)?.records ?? t.records)), "n"),
      cell(bytes(t.raw_bytes), "n"), cell(bytes(t.tail_bytes), "n"), cell(bytes(t.stored_bytes), "n"), bar);
    if (t.internal) tr.className = "internal";
    return tr;
  }));
  choose(now.topics);
}

function plugins(now) {
  fill("plugins", now.plugins.map((p) => {
    const s = p.stats;
    return row(cell(`${p.plugin} r${p.revision}`), cell(p.topic), cell(s.State, s.State === "running" ? "good" : "bad"),
      cell(count(s.In), "n"), cell(count(s.Out), "n"), cell(count(s.Dropped), "n"), cell(count(s.Dead), "n"), cell(count(s.Rejected), "n"),
      cell(s.In ? (s.Nanos / s.In / 1000).toFixed(2) : "–", "n"), cell(bytes(s.MemoryBytes), "n"));
  }));
}

const kinds = { running: "good", paused: "warn", connecting: "warn", waiting: "warn" };

function uplinks(now) {
  fill("uplinks", now.uplinks.map((u) => row(cell(u.name), cell(u.state, kinds[u.state] ?? "bad"), cell((u.brokers ?? []).join(", ")),
    cell(count(u.lag), "n"), cell(count(u.records), "n"), cell(bytes(u.bytes), "n"), cell(count(u.txns), "n"),
    cell(u.last_txn ? new Date(u.last_txn).toLocaleTimeString() : "–"))));
}

// bridges has its panel only where there are some.
function bridges(now) {
  $("bridges-panel").hidden = !now.bridges.length;
  fill("bridges", now.bridges.map((b) => row(cell(b.name), cell(b.state, kinds[b.state] ?? "bad"), cell(b.broker),
    cell(b.subscribe.join(", ")), cell(count(b.received), "n"), cell(count(b.committed), "n"), cell(count(b.in_flight), "n"),
    cell(count(b.refused + b.looped), "n"), cell(b.last_at ? new Date(b.last_at).toLocaleTimeString() : "–"))));
}

// choose keeps the list of topics to tail up to date, and begins with the busiest.
function choose(list) {
  const select = $("tail-topic"), names = list.map((t) => t.name).join("\n");
  if (select.dataset.names === names) return;
  select.dataset.names = names;
  const chosen = select.value;
  select.replaceChildren(...list.map((t) => new Option(t.name, t.name)));
  const busiest = list.filter((t) => !t.internal).sort((a, b) => b.records - a.records)[0];
  select.value = list.some((t) => t.name === chosen) ? chosen : busiest?.name ?? "";
  if (select.value !== chosen) tail();
}

let stream = null, paused = false;
const tailRows = 200;

function data(d) {
  if (d === null) return "";
  return typeof d === "string" ? d : "base64:" + d.base64;
}

function tail() {
  stream?.close();
  const topic = $("tail-topic").value;
  fill("tail", []);
  $("tail-skipped").textContent = "";
  if (!topic) return;
  let shown = false, skipped = 0;
  stream = new EventSource(`v1/topics/${encodeURIComponent(topic)}/tail`);
  stream.onopen = () => { if (shown) fill("tail", []); shown = false; };
  stream.onmessage = (e) => {
    if (paused) return;
    const ev = JSON.parse(e.data), body = $("tail");
    skipped += ev.skipped;
    $("tail-skipped").textContent = skipped ? `${count(skipped)} more went by` : "";
    if (!shown) { fill("tail", [row()]); body.replaceChildren(); shown = true; }
    for (const r of ev.records) {
      const value = cell(data(r.value), "mono value");
      value.title = (r.headers ?? []).map((h) => `${h.key}: ${data(h.value)}`).join("\n");
      body.prepend(row(cell(new Date(r.timestamp).toLocaleTimeString()), cell(r.partition, "n"), cell(whole.format(r.offset), "n"), cell(data(r.key), "mono key"), value));
    }
    while (body.children.length > tailRows) body.lastChild.remove();
  };
}

$("tail-topic").addEventListener("change", tail);
$("tail-pause").addEventListener("click", () => {
  paused = !paused;
  $("tail-pause").textContent = paused ? "Go on" : "Pause";
});

let live = null;

function watch() {
  live?.close();
  live = new EventSource("v1/live");
  live.onopen = () => { $("link").textContent = "live"; $("link").className = ""; before = null; };
  live.onmessage = (e) => show(JSON.parse(e.data));
  live.onerror = () => {
    $("link").textContent = "no connection, trying again";
    $("link").className = "off";
    if (live.readyState === EventSource.CLOSED) setTimeout(enter, 2000); // refused: the login may have ended
  };
}

// enter asks who we are, and for a login where there has to be one.
async function enter() {
  try {
    const answer = await fetch("v1/session");
    if (answer.status === 401) {
      stream?.close();
      live?.close();
      $("link").textContent = "not logged in";
      if (!$("login").open) $("login").showModal();
      return;
    }
    const session = await answer.json();
    $("who").textContent = session.user;
    $("logout").hidden = !session.user || session.method === "certificate";
    watch();
  } catch {
    setTimeout(enter, 2000);
  }
}

$("login").addEventListener("cancel", (e) => e.preventDefault());
$("login-form").addEventListener("submit", async (e) => {
  e.preventDefault();
  const problem = $("login-problem");
  problem.textContent = "";
  try {
    const answer = await fetch("v1/login", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ user: $("login-user").value, password: $("login-password").value }),
    });
    if (!answer.ok) {
      problem.textContent = (await answer.json()).detail;
      return;
    }
    $("login-password").value = "";
    $("login").close();
    enter();
  } catch {
    problem.textContent = "no connection";
  }
});
$("logout").addEventListener("click", async () => {
  await fetch("v1/logout", { method: "POST" });
  location.reload();
});

enter();
