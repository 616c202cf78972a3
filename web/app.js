"use strict";
(() => {
  const POLL_MS = 5000, HEALTH_MS = 2500, BARS = 720, ROWS_KEPT = 400, OVERLAP_MS = 15 * 60000;
  const NAMES = {
    volume_spike: ["V", "volume spike"], trade_spike: ["T", "trade spike"], order_book_imbalance: ["O", "order book"],
    sector_initiator: ["I", "sector initiator"], sector_diffusion: ["D", "sector diffusion"],
    market_wide: ["M", "market-wide move"], window_anomaly: ["W", "window anomaly"], pump: ["P", "pump"], system: ["S", "system"],
  };
  const WHY = {
    gate: "not rare enough", learning: "still learning what is rare", cooldown: "cooldown", burst: "same burst",
    muted: "muted", too_late: "too old to send", budget: "day's budget used", disabled: "switched off",
  };
  const ELSEWHERE = "This page only reads. Mute and release with Telegram (/mute, /unmute) or the command line (tapewatch --aws mute, tapewatch --aws cooldowns).";
  const root = document.documentElement;
  const $ = (id) => document.getElementById(id);
  const state = { symbol: "", market: "spot", show: "alerts", detector: "", direction: "", filter: "" };
  let universe = null, chart = null, nowMs = Date.now();
  let rows = new Map(), olderCursor = null, markerKey = "", alertsFor = new Map();

  // --- small helpers: all text passes through textContent ---------------------------------------------------
  const clean = (text) => String(text).replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g, "\ufffd");
  const el = (name, props, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(props || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (key === "class") made.className = value;
      else if (key === "onclick") made.addEventListener("click", value);
      else made.setAttribute(key, value === true ? "" : clean(value));
    }
    for (const child of children) if (child !== null && child !== undefined) made.append(child.nodeType ? child : clean(child));
    return made;
  };
  const letter = (name) => (NAMES[name] || ["?"])[0];
  const called = (name) => (NAMES[name] || [0, name])[1];
  const clock = (iso) => (iso ? iso.slice(11, 19) : "never");
  const day = (iso) => iso.slice(0, 10);
  const num = (value, digits = 2) => (typeof value === "number" && isFinite(value) ? value.toFixed(digits) : "–");
  const price = (value) => (typeof value === "number" ? String(+value.toPrecision(8)) : "–");
  const span = (ms) => {
    const s = Math.max(0, Math.round(ms / 1000));
    return s < 90 ? s + " s" : s < 5400 ? Math.round(s / 60) + " min" : s < 172800 ? Math.round(s / 3600) + " h" : Math.round(s / 86400) + " d";
  };
  const left = (iso) => (iso ? "until " + clock(iso) + " (" + span(Date.parse(iso) - nowMs) + ")" : "until lifted");
  const css = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const note = (id, name, text) => {
    const panel = $(id), line = panel.querySelector(".note");
    if (panel.dataset.state !== name) panel.dataset.state = name;
    if (line.textContent !== text) line.textContent = text;
  };
  const replace = (where, children) => where.replaceChildren(...children);
  const path = (base, query) => {
    const words = new URLSearchParams();
    for (const [key, value] of Object.entries(query || {})) if (value !== "" && value !== null && value !== undefined) words.set(key, value);
    const text = words.toString();
    return text ? base + "?" + text : base;
  };
  const sym = (name) => encodeURIComponent(name);

  // --- asking: every answer is remembered by its ETag -------------------------------------------------------
  const known = new Map(), start = window.tapewatchStart;
  /** The server understood and said no; `status` is its answer's. */
  class Refused extends Error {
    constructor(status, text) { super(text || "status " + status); this.status = status; }
  }
  const refused = (status, data) => {
    if (status === 401) signedOut();
    return new Refused(status, data && data.error);
  };
  const remember = (url, tag, data) => {
    if (known.size > 200) known.clear();
    if (tag) known.set(url, { tag, data });
    return data;
  };
  async function ask(url) {
    const early = start.asked.get(url);
    if (early) {
      start.asked.delete(url);
      const got = await early;
      if (!got.ok) throw refused(got.status, got.data);
      return remember(url, got.tag, got.data);
    }
    const before = known.get(url), headers = before ? { "If-None-Match": before.tag } : {};
    const stop = new AbortController(), timer = setTimeout(() => stop.abort(), 10000);
    try {
      const answer = await fetch(url, { headers, cache: "no-store", signal: stop.signal });
      if (answer.status === 304 && before) { await answer.text(); return before.data; }
      const data = await answer.json();
      if (!answer.ok) throw refused(answer.status, data);
      return remember(url, answer.headers.get("etag"), data);
    } finally { clearTimeout(timer); }
  }
  async function change(method, url, body) {
    const headers = { "Content-Type": "application/json" };
    const given = await fetch("/api/token", { cache: "no-store" });
    if (given.ok) headers["x-change-token"] = (await given.json()).token;
    const answer = await fetch(url, { method, headers, body: body ? JSON.stringify(body) : undefined });
    if (!answer.ok) {
      // What stands in front of the API on AWS refuses in its own words, which are no JSON.
      const said = await answer.json().catch(() => null);
      throw said ? refused(answer.status, said) : new Refused(answer.status, ELSEWHERE);
    }
  }
  /** One run at a time: a call during a run makes it run once more, so that no two draw the same panel. */
  const panel = (id, work) => {
    let running = null, again = false;
    const once = async () => {
      try { await work(); }
      catch (error) {
        if (error instanceof Refused && error.status === 401) { note(id, "error", "A token is needed."); return; }
        const said = error instanceof Refused ? error.message : "no answer from the server";
        note(id, "error", said.charAt(0).toUpperCase() + said.slice(1) + " — asking again every 5 s.");
        if (!(error instanceof Refused) && !(error instanceof TypeError) && error.name !== "AbortError") console.error(error);
      }
    };
    const runs = async () => {
      do { again = false; await once(); } while (again);
      running = null;
    };
    return () => {
      if (running) again = true;
      else running = runs();
      return running;
    };
  };

  // --- health -----------------------------------------------------------------------------------------------
  let failedSince = 0;
  const health = async () => {
    let data;
    try { data = await ask("/api/health"); failedSince = 0; }
    catch (error) {
      if (error instanceof Refused && error.status === 401) return;
      failedSince = failedSince || Date.now();
      root.dataset.feed = "unknown";
      banner("No answer from Tapewatch for " + span(Date.now() - failedSince) + ". What you see is from " + clock(new Date(nowMs).toISOString()) + " UTC.");
      overall("error", "no answer");
      note("health", "error", "The server does not answer — asking again.");
      return;
    }
    nowMs = Date.parse(data.time);
    $("clock").textContent = data.time.slice(0, 19).replace("T", " ") + " UTC" + (universe && universe.demo ? " (simulated market)" : "");
    const feed = data.feed, bans = Object.entries(data.exchange).filter(([, one]) => one.banned);
    root.dataset.feed = feed.good ? "good" : "bad";
    const cards = Object.entries(data.detectors).map(([name, one]) => card(called(name), one.state, [
      one.reason, one.last_run ? "last run " + clock(one.last_run) : "no run yet",
      one.last_bar ? "last bar " + one.last_bar.slice(11, 16) : null, one.alerts_24h + " alerts in 24 h",
    ], letter(name)));
    const feedState = feed.good ? (feed.state === "live" ? "ok" : feed.state) : "silent";
    cards.push(card("trade feed", feedState, [
      feed.reason, feed.last_event ? "last trade " + clock(feed.last_event) : "no trade yet",
      feed.lag_ms === null ? null : "lag " + num(feed.lag_ms / 1000, 1) + " s",
      feed.trades_per_s === null ? null : num(feed.trades_per_s, feed.trades_per_s < 10 ? 1 : 0) + " trades/s",
    ], null, feed.good ? feed.state : feed.state === "quiet" ? "silent" : feed.state));
    for (const [market, one] of Object.entries(data.exchange)) {
      cards.push(card("exchange " + market, one.banned ? "banned" : "ok", [one.banned ? "no call before " + clock(one.not_before) : "no ban", one.host]));
    }
    for (const [name, one] of Object.entries(data.channels || {})) {
      cards.push(card("channel " + name, one.state === "ok" ? "ok" : "silent", [one.error || "takes alerts", one.since ? "since " + clock(one.since) : null], null, one.state));
    }
    replace($("cards"), cards);
    const broken = Object.entries(data.components).filter(([, one]) => one.state === "silent").map(([name]) => name);
    const learning = Object.values(data.detectors).some((one) => one.state === "learning");
    const trouble = [];
    if (!feed.good) trouble.push("The trade feed is " + (feed.state === "quiet" ? "silent" : feed.state) + (feed.reason ? ": " + feed.reason : "") + ". Trade spikes and windows are not seen.");
    for (const [market, one] of bans) trouble.push("The exchange refuses " + market + " calls until " + clock(one.not_before) + ".");
    for (const [name, one] of Object.entries(data.channels || {})) {
      if (one.state !== "ok") trouble.push("The channel " + name + " does not take alerts: " + one.error + ".");
    }
    for (const [name, one] of Object.entries(data.components)) {
      if (one.state === "broken") trouble.push("The " + name + ": " + one.fields.problem + ".");
    }
    if (broken.length) trouble.push("Silent: " + broken.join(", ") + ".");
    banner(trouble.join(" "));
    if (trouble.length) overall("silent", "trouble");
    else if (data.status === "starting" || feed.state === "starting") overall("starting", "starting");
    else overall(learning ? "learning" : "ok", learning ? "learning" : "all well");
    note("health", "ready", data.status === "starting" ? "Some parts have not shown themselves yet." : learning ? "Detectors marked learning lack history; the others judge." : "");
  };
  const card = (title, name, lines, sign, word) => el("li", { "data-state": name, title: lines.filter(Boolean).join("\n") },
    el("b", {}, (sign ? sign + "  " : "") + title), el("span", { class: "word" }, word || name),
    ...lines.filter(Boolean).map((line) => el("span", { class: "muted" }, line)));
  const banner = (text) => {
    const line = $("banner");
    if (line.textContent !== clean(text)) line.textContent = clean(text);
    line.hidden = !text;
  };
  const overall = (name, text) => { $("overall").dataset.state = name; $("overall").textContent = text; };

  // --- price ------------------------------------------------------------------------------------------------
  let bars = [], lastBars = "", lastZ = "", drawn = { count: 0, ms: 0 };
  const seconds = (iso) => Date.parse(iso) / 1000;
  /** The library is read only when the first picture stands: it takes longer than everything before it. */
  let library = null;
  const loadLibrary = () => (library = library || import("./vendor/lightweight-charts-5.2.1.js"));
  const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");
  const utc = (time) => new Date(time * 1000).toISOString();
  // Written out: the library would wake the browser's own formatting of dates, which costs 20 ms at the first draw.
  const tick = (time, kind) => {
    const text = utc(time), month = MONTHS[+text.slice(5, 7) - 1];
    return kind === 0 ? text.slice(0, 4) : kind === 1 ? month : kind === 2 ? +text.slice(8, 10) + " " + month : text.slice(11, kind === 4 ? 19 : 16);
  };
  function makeChart() {
    const L = LightweightCharts;
    const made = L.createChart($("chart"), {
      autoSize: true, layout: { attributionLogo: false, background: { color: "transparent" }, fontSize: 11, panes: { enableResize: false } },
      timeScale: { timeVisible: true, secondsVisible: false, rightOffset: 4, tickMarkFormatter: tick }, crosshair: { mode: 0 },
      localization: { timeFormatter: (time) => utc(time).slice(0, 16).replace("T", " ") },
    });
    const candles = made.addSeries(L.CandlestickSeries, { borderVisible: false, priceLineVisible: false });
    const volume = made.addSeries(L.HistogramSeries, { priceScaleId: "volume", priceFormat: { type: "volume" }, lastValueVisible: false, priceLineVisible: false });
    candles.priceScale().applyOptions({ scaleMargins: { top: 0.08, bottom: 0.25 } });
    volume.priceScale().applyOptions({ scaleMargins: { top: 0.8, bottom: 0 } });
    const line = { lineWidth: 1.5, priceLineVisible: false, lastValueVisible: true };
    const first = made.addSeries(L.LineSeries, line, 1), second = made.addSeries(L.LineSeries, line, 1);
    made.panes()[0].setStretchFactor(3); made.panes()[1].setStretchFactor(1);
    return { made, candles, volume, first, second, marks: L.createSeriesMarkers(candles, []), limits: [] };
  }
  function paintChart() {
    if (!chart) return;
    const text = css("--muted"), grid = css("--line");
    chart.made.applyOptions({ layout: { textColor: text, panes: { separatorColor: grid } }, grid: { vertLines: { color: "transparent" }, horzLines: { color: css("--soft") } }, rightPriceScale: { borderColor: grid }, timeScale: { borderColor: grid } });
    const up = css("--candleup"), down = css("--candledown");
    chart.candles.applyOptions({ upColor: up, downColor: down, wickUpColor: up, wickDownColor: down });
    chart.volume.applyOptions({ color: css("--volume") });
    chart.first.applyOptions({ color: css("--accent") }); chart.second.applyOptions({ color: css("--second") });
    const limit = universe.thresholds;
    for (const one of chart.limits) chart.first.removePriceLine(one);
    const at = state.market === "spot" ? [limit.volume_ratio] : [limit.z_excess_return, -limit.z_excess_return];
    chart.limits = at.map((value) => chart.first.createPriceLine({ price: value, color: text, lineStyle: 2, lineWidth: 1, axisLabelVisible: false, title: "" }));
  }
  const decimals = (value) => (value >= 1000 ? 2 : value >= 1 ? 4 : value >= 0.01 ? 6 : 8);
  const asBars = (data) => data.open_time.map((time, i) => ({ time: seconds(time), open: data.open[i], high: data.high[i], low: data.low[i], close: data.close[i], value: data.volume[i] }));
  function drawBars(all) {
    const began = performance.now();
    bars = all;
    if (all.length) {
      const digits = decimals(all[all.length - 1].close);
      chart.candles.applyOptions({ priceFormat: { type: "price", precision: digits, minMove: Math.pow(10, -digits) } });
    }
    chart.candles.setData(all);
    chart.volume.setData(all.map(({ time, value }) => ({ time, value })));
    drawn = { count: 0, ms: 0, first: performance.now() - began };
    if (all.length && !root.dataset.barsMs) root.dataset.barsMs = num(performance.now(), 0);
  }
  function addBar(bar) {
    const began = performance.now(), last = bars[bars.length - 1];
    if (last && bar.time < last.time) return;
    if (last && bar.time === last.time) bars[bars.length - 1] = bar; else bars.push(bar);
    chart.candles.update(bar); chart.volume.update({ time: bar.time, value: bar.value });
    drawn.count += 1; drawn.ms += performance.now() - began;
  }
  function ratios(from) {
    const n = universe.thresholds.volume_bars, out = [];
    for (let i = Math.max(n, from); i < bars.length; i++) {
      let sum = 0;
      for (let k = i - n; k < i; k++) sum += bars[k].value;
      out.push(sum > 0 ? { time: bars[i].time, value: bars[i].value * n / sum } : { time: bars[i].time });
    }
    return out;
  }
  async function pages(base, query, most = 8) {
    const found = [];
    let cursor = "";
    for (let i = 0; i < most; i++) {
      const data = await ask(path(base, { ...query, cursor }));
      found.push(data);
      cursor = data.cursor;
      if (!cursor) break;
    }
    return found;
  }
  const loadPrice = panel("price", async () => {
    const wanted = state.symbol + "|" + state.market, base = "/api/bars/" + sym(state.symbol), market = state.market;
    const fresh = lastBars.split("@")[0] !== wanted;
    if (fresh) { lastZ = ""; if (chart || !root.dataset.firstBars) note("price", "loading", "Loading bars …"); }
    const query = fresh ? { market, minutes: BARS } : { market, since: lastBars.split("@")[1] };
    const found = await pages(base, query);
    if (wanted !== state.symbol + "|" + state.market) return;
    const got = found.flatMap(asBars), lastOpen = found.flatMap((one) => one.open_time).pop();
    $("price").querySelector(".json").href = path(base, { market, minutes: BARS });
    if (!chart) {
      await loadLibrary();
      if (chart === null) { chart = makeChart(); paintChart(); start.painted().then(() => start.painted()).then(() => { for (const old of $("chart").querySelectorAll(".first")) old.remove(); }); }
    }
    if (fresh) { drawBars(got); chart.first.setData([]); chart.second.setData([]); paintChart(); chart.made.timeScale().setVisibleLogicalRange({ from: Math.max(0, got.length - 240), to: got.length + 4 }); }
    else got.forEach(addBar);
    if (lastOpen) lastBars = wanted + "@" + lastOpen; else if (fresh) lastBars = "";
    if (!bars.length) { note("price", "empty", "No bars of " + state.symbol + " are stored yet; the first comes with the next closed minute."); return; }
    if (market === "spot") {
      const points = ratios(fresh ? 0 : Math.max(0, bars.length - got.length));
      if (fresh) chart.first.setData(points); else points.forEach((one) => chart.first.update(one));
    } else await loadZ(wanted, fresh);
    await loadMarkers(fresh);
    const last = bars[bars.length - 1], before = bars[Math.max(0, bars.length - 61)];
    const moved = 100 * (last.close / before.close - 1);
    const text = state.symbol + " " + market + ": " + price(last.close) + ", " + (moved >= 0 ? "+" : "") + num(moved) + " % in " + (bars.length > 60 ? "an hour" : bars.length + " min") + ", bar of " + new Date(last.time * 1000).toISOString().slice(11, 16) + " UTC";
    $("caption").textContent = clean(text);
    $("chart").setAttribute("aria-label", clean("Price chart. " + text + ". " + (alertsFor.get(wanted) || []).length + " alerts marked."));
    $("price").dataset.market = market;
    root.dataset.firstDraw = num(drawn.first, 1);
    if (drawn.count) root.dataset.updateMs = num(drawn.ms / drawn.count, 3);
    note("price", "ready", "");
  });
  async function loadZ(wanted, fresh) {
    const query = lastZ ? { symbol: state.symbol, since: lastZ } : { symbol: state.symbol, minutes: BARS };
    const found = (await pages("/api/features", query)).flatMap((one) => one.features);
    if (wanted !== state.symbol + "|" + state.market || !found.length) return;
    const points = (name) => found.map((row) => (row[name] === null ? { time: seconds(row.open_time) } : { time: seconds(row.open_time), value: row[name] }));
    if (fresh || !lastZ) { chart.first.setData(points("z_excess_return")); chart.second.setData(points("z_volume")); }
    else { points("z_excess_return").forEach((one) => chart.first.update(one)); points("z_volume").forEach((one) => chart.second.update(one)); }
    lastZ = found[found.length - 1].open_time;
  }
  async function loadMarkers(fresh) {
    const key = state.symbol + "|" + state.market, from = bars.length ? new Date(bars[0].time * 1000).toISOString() : "24h";
    const data = await ask(path("/api/alerts", { symbol: state.symbol, since: fresh || !markerKey ? from : markerKey, limit: 500 }));
    if (fresh || !markerKey) { alertsFor.set(key, []); markerKey = from; }
    alertsFor.set(key, data.alerts.filter((one) => one.market === state.market));
    const marks = alertsFor.get(key).map((one) => ({
      time: Math.floor(seconds(one.event_time) / 60) * 60, position: one.direction === "DOWN" ? "belowBar" : "aboveBar",
      shape: one.direction === "DOWN" ? "arrowUp" : one.direction === "UP" ? "arrowDown" : "circle", color: css(one.severity === "critical" ? "--bad" : "--warn"), text: letter(one.detector), size: 0.7,
    })).sort((a, b) => a.time - b.time);
    chart.marks.setMarkers(marks);
    $("chart").dataset.marks = alertsFor.get(key).map((one) => letter(one.detector) + one.event_time).join(" ");
  }

  // --- alert feed -------------------------------------------------------------------------------------------
  const rowKey = (one) => one.detector + one.symbol + one.event_time + (one.trade_id || one.alert_id || "");
  const feedQuery = () => ({ detector: state.detector, direction: state.direction, symbol: state.filter });
  const feedBase = () => (state.show === "alerts" ? "/api/alerts" : "/api/signals");
  let feedKey = "", openRow = "", seen = new Set();
  const loadFeed = panel("feed", async () => {
    const key = JSON.stringify([state.show, feedQuery()]), fresh = key !== feedKey;
    if (fresh) { rows = new Map(); seen = new Set(); olderCursor = null; note("feed", "loading", "Loading alerts …"); }
    let newest = 0;
    for (const one of rows.values()) newest = Math.max(newest, Date.parse(one.event_time));
    const query = { ...feedQuery(), limit: 100 };
    if (newest) query.since = new Date(Math.floor((newest - OVERLAP_MS) / 60000) * 60000).toISOString();
    const took = await gather(query, fresh);
    if (key !== JSON.stringify([state.show, feedQuery()])) return;
    feedKey = key;
    $("feed").querySelector(".json").href = path(feedBase(), { ...feedQuery(), limit: 100 });
    if (took || fresh) drawFeed();
  });
  /** Ask until something comes or the end is reached, as a filter may keep nothing of a page; later on until a page brings nothing new. */
  async function gather(query, first) {
    let took = 0;
    for (let i = 0; i < 10; i++) {
      const data = await ask(path(feedBase(), query)), known = seen.size;
      for (const one of data.alerts || data.signals) {
        seen.add(rowKey(one));
        if (state.show === "held" && one.alerted) continue;
        if (!rows.has(rowKey(one))) took += 1;
        rows.set(rowKey(one), one);
      }
      if (first) olderCursor = data.cursor;
      if (!data.cursor || (first ? took : seen.size === known)) break;
      query.cursor = data.cursor;
    }
    return took;
  }
  async function older() {
    const query = { ...feedQuery(), limit: 100, cursor: olderCursor };
    await gather(query, true);
    drawFeed(true);
  }
  function drawFeed(keepAll) {
    let list = [...rows.values()].sort((a, b) => (a.event_time < b.event_time ? 1 : a.event_time > b.event_time ? -1 : 0));
    if (!keepAll && list.length > ROWS_KEPT) {
      for (const one of list.slice(ROWS_KEPT)) rows.delete(rowKey(one));
      list = list.slice(0, ROWS_KEPT);
    }
    const active = document.activeElement, focused = active && active.closest ? active.closest("#rows li") : null;
    const focusedKey = focused ? focused.dataset.key : "";
    const children = [];
    let shown = "";
    for (const one of list) {
      if (day(one.event_time) !== shown) { shown = day(one.event_time); children.push(el("li", { class: "day" }, shown)); }
      children.push(feedRow(one));
    }
    replace($("rows"), children);
    if (focusedKey) for (const row of $("rows").children) if (row.dataset.key === focusedKey) row.querySelector("summary").focus();
    $("older").hidden = !olderCursor;
    const filtered = state.detector || state.direction || state.filter || state.show === "held";
    if (list.length) note("feed", "ready", "");
    else note("feed", "empty", filtered ? "Nothing matches these filters." : "No alert yet. Rules that fire show here within seconds; thresholds are in tapewatch.yaml.");
  }
  function feedRow(one) {
    const held = one.held_reason || "", key = rowKey(one);
    const arrow = one.direction === "UP" ? "↑" : one.direction === "DOWN" ? "↓" : "";
    const summary = el("summary", {}, el("span", { title: one.event_time }, clock(one.event_time)),
      el("span", { class: "letter", title: called(one.detector) }, letter(one.detector)), el("bdi", { class: "sym", title: one.symbol }, one.symbol),
      el("span", { title: one.direction || "" }, arrow, arrow ? el("span", { class: "hide" }, " " + one.direction) : null),
      el("span", { class: "what" }, one.title ? one.title.replace(/^\W+/u, "") : brief(one),
        held ? el("span", { class: "hold" }, "held: " + (WHY[held] || held) + (one.held_until ? ", " + left(one.held_until) : "")) : null));
    const more = el("details", { open: openRow === key }, summary);
    more.addEventListener("toggle", () => { if (more.open) { openRow = key; fill(); } else if (openRow === key) openRow = ""; });
    const fill = () => {
      if (more.children.length > 1) return;
      more.append(el("pre", {}, one.text || JSON.stringify({ values: one.values, thresholds: one.thresholds }, null, 1)));
      const tools = el("div", { class: "more" });
      if (!held) tools.append(el("a", { href: "/api/alerts/" + sym(one.alert_id) }, "JSON with deliveries"));
      if (one.detector !== "system" && universe.changes) tools.append(el("button", { type: "button", onclick: () => mute(one.symbol, "1h") }, "Mute 1 hour"));
      if (one.detector !== "system") tools.append(
        el("button", { type: "button", onclick: () => choose(one.symbol, one.market) }, "Show on the chart"));
      more.append(tools);
    };
    if (openRow === key) fill();
    return el("li", { "data-key": key, "data-id": one.alert_id, "data-detector": one.detector, "data-severity": one.severity, "data-held": held || null, "data-time": one.event_time }, more);
  }
  const brief = (one) => {
    const v = one.values || {};
    const said = { trade_spike: () => num(v.ratio, 1) + "x the mean size", volume_spike: () => num(v.ratio, 1) + "x the mean volume", order_book_imbalance: () => "imbalance " + num(v.obi),
      sector_initiator: () => "ER " + num(v.z_excess_return, 1) + "σ, volume " + num(v.z_volume, 1) + "σ, " + v.status, sector_diffusion: () => v.followers_count + " followers", market_wide: () => v.moved + " of " + v.symbols + " symbols", window_anomaly: () => "score " + num(v.score, 3) }[one.detector];
    return called(one.detector) + (said ? ": " + said() : v.message ? ": " + v.message : "");
  };

  // --- sectors ----------------------------------------------------------------------------------------------
  const heat = (z) => (typeof z !== "number" || Math.abs(z) < 1 ? null : (z > 0 ? "u" : "d") + (Math.abs(z) >= 3 ? 3 : Math.abs(z) >= 2 ? 2 : 1));
  const loadSectors = panel("sectors", async () => {
    const data = await ask("/api/features");
    if (!data.features.length) {
      replace($("heat"), []);
      note("sectors", universe.futures.length ? "learning" : "empty", universe.futures.length ? "No features yet: they come with the first stored minute of futures bars." : "The sector detector is switched off.");
      return;
    }
    const groups = new Map();
    for (const row of data.features) {
      const name = row.sector || "Benchmark";
      groups.set(name, [...(groups.get(name) || []), row]);
    }
    const head = el("thead", {}, el("tr", {}, ...["Symbol", "ER z", "Vol z", "Takers", "15 min", "State"].map((word) => el("th", { scope: "col" }, word))));
    const bodies = [...groups].sort((a, b) => (a[0] === "Benchmark") - (b[0] === "Benchmark") || (a[0] < b[0] ? -1 : 1)).map(([name, members]) => el("tbody", {},
      el("tr", { class: "group" }, el("th", { colspan: 6, scope: "rowgroup" }, name)), ...members.map((row) => el("tr", { "data-symbol": row.symbol },
        el("td", { title: row.symbol }, el("bdi", {}, row.symbol)), el("td", { class: heat(row.z_excess_return) }, num(row.z_excess_return)), el("td", { class: heat(row.z_volume) }, num(row.z_volume)),
        el("td", {}, row.taker_buy_share === null ? "–" : num(100 * row.taker_buy_share, 0) + " %"), el("td", {}, row.r_15m === null ? "–" : num(100 * row.r_15m) + " %"),
        el("td", {}, row.status === "warming" ? "learning " + row.bars + "/" + data.needed.bars : row.status)))));
    replace($("heat"), [el("caption", { class: "hide" }, "Sector features of the newest minute"), head, ...bodies]);
    const learning = data.features.filter((row) => row.status === "warming").length;
    note("sectors", learning ? "learning" : "ready", (learning ? learning + " of " + data.features.length + " symbols are learning. " : "") + "Minute " + data.time.slice(11, 16) + " UTC; colour from 1σ, strong from 3σ.");
  });

  // --- isolation forest -------------------------------------------------------------------------------------
  const loadForest = panel("forest", async () => {
    const symbol = state.market === "spot" && state.symbol ? state.symbol : universe.spot[0];
    if (!symbol) { note("forest", "empty", "No spot symbol is watched."); return; }
    const url = "/api/windows/" + sym(symbol) + "/scores", data = await ask(url);
    $("forest").querySelector(".json").href = url;
    const facts = [["Symbol", symbol], ["Windows", data.windows + " of 20 s, " + data.scored + " scored"]];
    if (data.threshold !== null) facts.push(["Threshold", num(data.threshold, 4)]);
    if (data.rate !== null) facts.push(["Rate", num(100 * data.rate) + " % (" + data.anomalies + " of " + data.judged + "), wanted " + num(100 * data.wanted_rate) + " %"]);
    if (data.model_age_windows !== null) facts.push(["Model", "fitted " + data.model_age_windows + " windows ago (" + span(data.model_age_windows * 20000) + ")"]);
    replace($("facts"), facts.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
    $("hist").hidden = !data.counts.length;
    if (data.counts.length) drawHist(data);
    $("forest").dataset.threshold = data.threshold;
    if (data.state === "empty") note("forest", "empty", "No windows of " + symbol + " are stored yet; one comes every 20 s.");
    else if (data.state === "learning") note("forest", "learning", "Learning: " + data.windows + " of " + data.needed.windows + " windows, then " + data.scored + " of " + data.needed.scores + " scores.");
    else note("forest", "ready", "Left of the line is anomalous.");
  });
  const shape = (name, props, text) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(props)) made.setAttribute(key, value);
    if (text) made.textContent = text;
    return made;
  };
  function drawHist(data) {
    const box = $("hist"), width = Math.max(160, box.clientWidth), height = 165, base = height - 18;
    const from = data.edges[0], to = data.edges[data.edges.length - 1], most = Math.max(...data.counts);
    const x = (score) => 4 + (width - 8) * (score - from) / (to - from || 1);
    const y = (count) => base - (base - 12) * Math.sqrt(count / most);
    const drawn = shape("svg", { width, height, viewBox: "0 0 " + width + " " + height, "aria-hidden": "true" });
    data.counts.forEach((count, i) => {
      if (!count) return;
      const odd = data.threshold !== null && data.edges[i] < data.threshold;
      drawn.append(shape("rect", { class: odd ? "odd" : "bar", x: x(data.edges[i]) + 0.5, width: Math.max(1, x(data.edges[i + 1]) - x(data.edges[i]) - 1), y: y(count), height: base - y(count) }));
    });
    drawn.append(shape("line", { class: "base", x1: 0, x2: width, y1: base + 0.5, y2: base + 0.5 }));
    if (data.threshold !== null) {
      const at = Math.min(width - 4, Math.max(4, x(data.threshold)));
      drawn.append(shape("line", { class: "limit", x1: at, x2: at, y1: 4, y2: base }), shape("text", { x: Math.min(at + 4, width - 96), y: 12 }, "threshold " + num(data.threshold, 3)));
    }
    for (const [score, anchor] of [[from, "start"], [(from + to) / 2, "middle"], [to, "end"]]) drawn.append(shape("text", { x: x(score), y: height - 4, "text-anchor": anchor }, num(score)));
    box.replaceChildren(drawn);
    box.setAttribute("aria-label", "Histogram of " + data.scored + " scores from " + num(from, 3) + " to " + num(to, 3) + (data.threshold === null ? "" : ", threshold " + num(data.threshold, 3)));
  }

  // --- cooldowns and mutes ----------------------------------------------------------------------------------
  const loadHolds = panel("holds", async () => {
    const [cool, mutes] = await Promise.all([ask("/api/cooldowns"), ask("/api/mutes")]);
    const listed = mutes.mutes.map((one) => el("li", { "data-mute": one.symbol }, el("b", {}, "muted"), el("bdi", { class: "sym", title: one.symbol }, one.symbol),
      el("span", { class: "muted" }, left(one.until) + (one.reason ? " · " + one.reason : "")),
      one.id ? releaser("Release the mute of " + one.symbol, () => unmute(one)) : el("span", { class: "rest muted" }, "by the settings")));
    for (const one of cool.cooldowns) listed.push(el("li", { "data-cooldown": one.detector + "|" + one.symbol }, el("span", { class: "letter", title: called(one.detector) }, letter(one.detector)),
      el("bdi", { class: "sym", title: one.symbol }, one.symbol), one.direction ? el("span", {}, one.direction) : null,
      el("span", { class: "muted" }, "cooldown " + left(one.until)), one.held ? el("span", { class: "hold" }, one.held + " held since " + clock(one.held_since)) : null,
      releaser("Release the cooldown of " + called(one.detector) + " " + one.symbol + (one.direction ? " " + one.direction : ""), () => release(one))));
    const active = document.activeElement, name = active && $("hold-rows").contains(active) ? active.getAttribute("aria-label") : null;
    replace($("hold-rows"), listed);
    if (name) for (const button of $("hold-rows").querySelectorAll("button")) if (button.getAttribute("aria-label") === name) button.focus();
    const elsewhere = universe.changes ? "" : ELSEWHERE;
    note("holds", listed.length ? "ready" : "empty", listed.length ? elsewhere : ("Nothing is held back: no cooldown runs and no symbol is muted. " + elsewhere).trim());
  });
  const releaser = (label, work) => (universe.changes ? el("button", { type: "button", class: "rest", "aria-label": label, onclick: work }, "Release") : null);
  const act = async (work, done) => {
    try { await work(); await loadHolds(); note("holds", $("holds").dataset.state, done); }
    catch (error) { note("holds", "error", error instanceof Refused ? error.message : "The change did not reach the server."); }
  };
  const mute = (symbol, span_) => act(() => change("POST", "/api/mutes", { symbol, for: span_, reason: "page" }), symbol + " is muted.");
  const release = (one) => act(() => change("DELETE", "/api/cooldowns/" + sym(one.id)), "The cooldown of " + called(one.detector) + " " + one.symbol + " is released: its next signal passes.");
  const unmute = (one) => act(() => change("DELETE", "/api/mutes/" + sym(one.id)), one.symbol + " is released.");

  // --- hours and quality ------------------------------------------------------------------------------------
  const loadHours = panel("hours", async () => {
    const data = await ask("/api/summary");
    replace($("blocks"), data.hours.map((one, i) => {
      const hour = one.hour.slice(11, 13), kinds = Object.entries(one.detectors).map(([name, n]) => n + " " + called(name)).join(", ");
      return el("li", { "data-n": one.total >= 10 ? 3 : one.total >= 4 ? 2 : one.total ? 1 : 0, "data-hour": one.hour, "data-tick": i % 4 === 3 ? hour + "h" : null, title: hour + ":00 UTC: " + (kinds || "none") },
        el("span", { class: "hide" }, hour + ":00 "), String(one.total || "·"));
    }));
    note("hours", data.total ? "ready" : "empty", data.total ? data.total + " alerts in 24 hours, the running hour last." : "No alert in the last 24 hours.");
  });
  const loadQuality = panel("quality", async () => {
    const [data, kept] = await Promise.all([ask("/api/quality"), ask("/api/reports")]);
    replace($("reports"), kept.reports.slice(0, 7).map((one) => el("li", {}, el("a", { href: one.path }, "report to " + one.until.slice(0, 16).replace("T", " ")))));
    $("no-reports").hidden = kept.reports.length > 0;
    if (data.state === "none") { replace($("grades"), []); note("quality", "empty", "No evaluation is stored and no alert is an hour old: `tapewatch" + (universe.changes ? "" : " --aws") + " evaluate` says what alerts are worth, and keeps it here."); return; }
    const list = data.rows || [], names = list.length ? Object.keys(list[0]).slice(0, 6) : [];
    replace($("grades"), [el("thead", {}, el("tr", {}, ...names.map((name) => el("th", { scope: "col" }, name.replaceAll("_", " "))))),
      el("tbody", {}, ...list.map((row) => el("tr", {}, ...names.map((name) => el("td", {}, typeof row[name] === "number" ? String(+row[name].toPrecision(3)) : row[name] === null ? "–" : row[name])))))]);
    note("quality", "ready", [data.note, data.data, data.time].filter(Boolean).join(" · "));
  });

  // --- choices, kept in the address -------------------------------------------------------------------------
  const CHOICES = { symbol: "symbol", market: "market", show: "show", detector: "detector", direction: "direction", filter: "filter" };
  function readAddress() {
    const words = new URLSearchParams(location.search);
    for (const [name, key] of Object.entries(CHOICES)) if (words.has(key)) state[name] = words.get(key).slice(0, 40);
    if (!["alerts", "all", "held"].includes(state.show)) state.show = "alerts";
    if (!["spot", "usdm"].includes(state.market)) state.market = "spot";
  }
  function keepAddress() {
    const kept = { ...state };
    if (kept.show === "alerts") kept.show = "";
    if (kept.market === "spot") kept.market = "";
    history.replaceState(null, "", path(location.pathname, kept) + location.hash);
  }
  function choose(symbol, market) {
    state.symbol = symbol; state.market = market;
    showChoice(); keepAddress(); lastBars = ""; markerKey = "";
    loadPrice(); loadForest();
    $("price").scrollIntoView({ block: "nearest" });
  }
  function showChoice() {
    const select = $("symbol"), value = state.market + "|" + state.symbol;
    if (![...select.options].some((one) => one.value === value)) select.append(el("option", { value }, state.symbol + " (" + state.market + ")"));
    select.value = value;
  }
  function setUp() {
    const group = (label, market, names) => el("optgroup", { label }, ...names.map((name) => el("option", { value: market + "|" + name }, name)));
    replace($("symbol"), [group("spot", "spot", universe.spot), group("USD-M futures", "usdm", universe.futures)]);
    if (!state.symbol) { state.market = universe.spot.length ? "spot" : "usdm"; state.symbol = universe.spot[0] || universe.benchmark; }
    showChoice();
    $("mute").hidden = !universe.changes;
    $("symbol").addEventListener("change", (event) => { const [market, ...rest] = event.target.value.split("|"); choose(rest.join("|"), market); });
    $("f-detector").append(...Object.keys(NAMES).map((name) => el("option", { value: name }, called(name))));
    for (const [id, name] of [["f-show", "show"], ["f-detector", "detector"], ["f-direction", "direction"], ["f-symbol", "filter"]]) {
      $(id).value = state[name];
      let timer = 0;
      $(id).addEventListener(id === "f-symbol" ? "input" : "change", (event) => {
        clearTimeout(timer);
        timer = setTimeout(() => { state[name] = event.target.value.trim(); keepAddress(); loadFeed(); }, id === "f-symbol" ? 250 : 0);
      });
    }
    $("older").addEventListener("click", panel("feed", older));
    $("mute").addEventListener("submit", (event) => { event.preventDefault(); const box = $("m-symbol"); mute(box.value.trim(), $("m-for").value).then(() => { box.value = ""; }); });
    $("chart").addEventListener("keydown", (event) => {
      if (!chart || event.altKey || event.ctrlKey || event.metaKey) return;
      const scale = chart.made.timeScale(), range = scale.getVisibleLogicalRange();
      if (!range) return;
      const step = (range.to - range.from) / 8;
      const moves = { ArrowLeft: [-step, -step], ArrowRight: [step, step], "+": [step, 0], "-": [-step, 0], Home: [-range.from, -range.from], End: [bars.length + 4 - range.to, bars.length + 4 - range.to] }[event.key];
      if (moves) { event.preventDefault(); scale.setVisibleLogicalRange({ from: range.from + moves[0], to: range.to + moves[1] }); }
    });
  }
  function theme(name) {
    root.dataset.theme = name;
    $("theme").textContent = name === "light" ? "Switch to dark" : "Switch to light";
    if (universe) { paintChart(); if (chart && bars.length) loadMarkers(false).catch(() => {}); }
  }
  $("theme").addEventListener("click", () => {
    const next = root.dataset.theme === "light" ? "dark" : "light";
    try { localStorage.setItem("theme", next); } catch (refused) { /* kept for this visit only */ }
    theme(next);
  });

  // --- who may read -----------------------------------------------------------------------------------------
  // The token stays in a cookie of this origin, which the server's front checks: it is never part of an address.
  const COOKIE = "tapewatch_token", secure = location.protocol === "https:" ? "; Secure" : "";
  const keepToken = (token, seconds_) => { document.cookie = COOKIE + "=" + token + "; Path=/; SameSite=Lax; Max-Age=" + seconds_ + secure; };
  const hasToken = () => document.cookie.split("; ").some((one) => one.startsWith(COOKIE + "="));
  let locked = false;
  function signedOut() {
    if (locked) return;
    locked = true;
    known.clear();
    root.dataset.locked = "true";
    $("signin").hidden = false;
    $("content").hidden = true;
    document.querySelector(".skip").hidden = true;
    $("signout").hidden = true;
    banner("");
    overall("starting", "signed out");
    $("token").focus();
  }
  /** Go on to the report whose link led here; nothing else can be named. */
  function goOn() {
    const next = new URLSearchParams(location.search).get("next") || "", known_ = /^\/api\/reports\/[0-9TZ-]+$/.test(next);
    if (known_) location.replace(next);
    return known_;
  }
  function signedIn() {
    if (goOn()) return;
    locked = false;
    delete root.dataset.locked;
    $("signin").hidden = true;
    $("content").hidden = false;
    document.querySelector(".skip").hidden = false;
    $("signout").hidden = !hasToken();
    health(); round();
  }
  async function signIn() {
    const box = $("token"), token = box.value.trim(), line = $("signin-note");
    if (!/^[!#-+\--:<-[\]-~]+$/.test(token)) { line.textContent = "A token has no blanks, commas, semicolons or quotes."; return; }
    line.textContent = "Asking …";
    try {
      const answer = await fetch("/api/universe", { headers: { "x-api-key": token }, cache: "no-store" });
      if (answer.status === 401) { line.textContent = "That is not the token."; return; }
      if (!answer.ok) { line.textContent = "The server answered " + answer.status + "; try again."; return; }
    } catch (error) { line.textContent = "No answer from the server; try again."; return; }
    keepToken(token, 180 * 86400);
    box.value = ""; line.textContent = "";
    signedIn();
  }
  $("signin").addEventListener("submit", (event) => { event.preventDefault(); signIn(); });
  $("signout").addEventListener("click", () => {
    keepToken("", 0);
    // Nothing that was read stays on the screen or in memory.
    location.replace(location.pathname);
  });

  // --- life -------------------------------------------------------------------------------------------------
  let rounds = 0, busy = false;
  const PANELS = ["price", "feed", "sectors", "forest", "holds", "hours"];
  async function round() {
    if (busy || locked) return;
    busy = true;
    try {
      if (!universe) { universe = await ask("/api/universe"); if (goOn()) return; setUp(); }
      await Promise.all([loadPrice(), loadFeed(), loadSectors(), loadForest(), loadHolds(), loadHours()]);
      if (rounds % 12 === 0) await loadQuality();
      if (locked) return;
      rounds += 1;
      root.dataset.rounds = rounds;
      if (!root.dataset.ready) { root.dataset.ready = "true"; root.dataset.readyMs = num(performance.now(), 0); }
    } catch (error) {
      if (!locked) for (const id of PANELS) note(id, "error", "No answer from the server — asking again every 5 s.");
    } finally { busy = false; }
  }
  readAddress();
  theme(root.dataset.theme);
  $("signout").hidden = !hasToken();
  start.pictured.then(() => { health(); round(); });
  setInterval(() => { if (!document.hidden && !locked) health(); }, HEALTH_MS);
  setInterval(() => { if (!document.hidden) round(); }, POLL_MS);
  document.addEventListener("visibilitychange", () => { if (!document.hidden && !locked) { health(); round(); } });
  window.tapewatch = { drawBars, addBar, clean };
})();
