"use strict";
// Runs before the first paint: the theme, so that nothing flashes; the first questions, so that their answers come while
// the page is still being read; and with them a first picture of the bars, which stands until the chart library does.
(() => {
  const BARS = 720, SHOWN = 240, PATIENCE_MS = 1500;
  const root = document.documentElement, words = new URLSearchParams(location.search);
  let kept = null;
  try { kept = localStorage.getItem("theme"); } catch (refused) { kept = null; }
  const light = window.matchMedia("(prefers-color-scheme: light)").matches;
  root.dataset.theme = kept === "light" || kept === "dark" ? kept : light ? "light" : "dark";

  /** Answers on their way, by address; whoever takes one asks anew the next time. */
  const asked = new Map();
  const early = (url) => {
    const answer = fetch(url, { cache: "no-store" }).then(async (got) => ({ status: got.status, ok: got.ok, tag: got.headers.get("etag"), data: await got.json() }));
    answer.catch(() => {});
    asked.set(url, answer);
    return answer;
  };
  const barsOf = (symbol, market) => "/api/bars/" + encodeURIComponent(symbol) + "?" + new URLSearchParams({ market, minutes: BARS });
  const read = () => new Promise((done) => {
    if (document.readyState !== "loading") done();
    else document.addEventListener("readystatechange", done, { once: true });
  });

  function picture(data) {
    const box = document.getElementById("chart"), width = box.clientWidth, height = box.clientHeight;
    const from = Math.max(0, data.close.length - SHOWN), n = data.close.length - from;
    if (!n || width < 120) return;
    const css = getComputedStyle(root), color = (name) => css.getPropertyValue(name).trim();
    const made = document.createElement("canvas"), scale = window.devicePixelRatio || 1;
    made.width = Math.round(width * scale); made.height = Math.round(height * scale);
    made.className = "first";
    const pen = made.getContext("2d");
    pen.scale(scale, scale);
    const plot = (height - 28) * 0.75, right = width - 64, step = right / (n + 4), wide = Math.max(1, step * 0.7);
    let low = Infinity, high = -Infinity, most = 0;
    for (let i = from; i < from + n; i++) {
      low = Math.min(low, data.low[i]); high = Math.max(high, data.high[i]); most = Math.max(most, data.volume[i]);
    }
    const y = (value) => plot * (0.75 - 0.67 * (value - low) / (high - low || 1));
    const colors = [color("--candledown"), color("--candleup"), color("--volume")];
    for (const kind of [2, 0, 1]) {
      pen.fillStyle = colors[kind];
      for (let i = from; i < from + n; i++) {
        const x = (i - from + 0.5) * step, up = data.close[i] >= data.open[i] ? 1 : 0;
        if (kind === 2) { const tall = plot * 0.2 * data.volume[i] / (most || 1); pen.fillRect(x - wide / 2, plot - tall, wide, tall); continue; }
        if (up !== kind) continue;
        const top = y(Math.max(data.open[i], data.close[i])), end = y(Math.min(data.open[i], data.close[i]));
        pen.fillRect(x - 0.5, y(data.high[i]), 1, Math.max(1, y(data.low[i]) - y(data.high[i])));
        pen.fillRect(x - wide / 2, top, wide, Math.max(1, end - top));
      }
    }
    pen.fillStyle = color("--muted");
    pen.font = "11px system-ui, sans-serif";
    for (const part of [0, 0.5, 1]) pen.fillText(String(+(low + part * (high - low)).toPrecision(6)), right + 6, y(low + part * (high - low)) + 4);
    document.querySelector("#price .note").textContent = "";
    box.append(made);
    root.dataset.firstBars = data.close.length;
  }
  /** Draw in the next frame, which comes only when the style sheet is there; resolve when it has been painted. */
  const painted = (draw) => new Promise((done) => requestAnimationFrame(() => {
    if (draw) draw();
    const channel = new MessageChannel();
    channel.port1.onmessage = () => { channel.port1.close(); done(); };
    channel.port2.postMessage(0);
  }));
  async function first() {
    // Without a symbol: those of the first that is watched. Which one that is need not be waited for.
    const asks = words.get("symbol"), answer = early(asks ? barsOf(asks, words.get("market") || "spot") : "/api/bars?minutes=" + BARS);
    early("/api/universe").catch(() => {});  // second: the local server answers one at a time
    const bars = await answer;
    await read();
    if (!bars.ok) return;
    asked.set(barsOf(bars.data.symbol, bars.data.market), answer);
    await painted(() => picture(bars.data));
    root.dataset.paintedMs = Math.round(performance.now());
  }
  const done = first().catch(() => {});
  const patience = new Promise((over) => setTimeout(over, PATIENCE_MS));
  window.tapewatchStart = { asked, barsOf, painted, pictured: Promise.race([done, patience]) };
})();
