// The last 15 minutes, drawn by uPlot from /api/v1/history: all at first, then what is new, once a second.
"use strict";
(() => {
  const place = document.getElementById("charts");
  if (!place || typeof uPlot === "undefined") return;
  const SECONDS = 15 * 60;
  const samples = [];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const ink = () => getComputedStyle(document.documentElement);
  const colour = (name) => ink().getPropertyValue(`--${name}`).trim();

  const count = (value) => value == null ? "–" : value >= 1e6 ? `${+(value / 1e6).toFixed(1)}M` : value >= 1e4 ? `${+(value / 1e3).toFixed(1)}k` : `${Math.round(value * 10) / 10}`;
  const bytes = (value) => value == null ? "–" : value >= 1e6 ? `${+(value / 1e6).toFixed(1)} MB` : value >= 1e3 ? `${+(value / 1e3).toFixed(1)} kB` : `${value} B`;
  const micros = (value) => value == null ? "–" : value >= 1e6 ? `${+(value / 1e6).toFixed(1)} s` : value >= 1e3 ? `${+(value / 1e3).toFixed(1)} ms` : `${value} µs`;

  const clock = (value) => new Date(value * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" }).replace(/:00$/, "");

  const SERIES = {
    statements: { show: count, lines: [["replica", "replica", (s) => s.replica], ["primary", "primary", (s) => s.primary]] },
    latency: { show: micros, lines: [["p50", "replica", (s) => s.p50], ["p95", "accent", (s) => s.p95], ["p99", "bad", (s) => s.p99]] },
    sessions: { show: count, lines: [["open", "accent", (s) => s.sessions_active]] },
    reasks: { show: count, lines: [["re-asks", "warn", (s) => s.reasks], ["fence timeouts", "soft", (s) => s.fence_timeouts]] },
    errors: { show: count, lines: [["errors", "bad", (s) => s.errors]] },
  };
  const LAG = ["accent", "warn", "replica", "primary", "bad"];

  const clusters = JSON.parse(place.dataset.clusters);
  const linesOf = (key) => {
    if (key !== "lag") return SERIES[key].lines;
    const names = [...new Set(samples.flatMap((s) => Object.keys(s.lag)))].sort();
    const hosts = clusters.flatMap((cluster) => names.filter((name) => name.startsWith(`${cluster}.`)).map((name) => [name, name.slice(cluster.length + 1)]));
    return hosts.slice(0, 8).map(([name, host], index) => [host, LAG[index % LAG.length], (s) => s.lag[name] ?? null]);
  };

  const charts = new Map();
  const data = (lines) => [samples.map((s) => s.time), ...lines.map(([, , of]) => samples.map(of))];
  const make = (figure) => {
    const key = figure.dataset.chart;
    const lines = linesOf(key);
    const box = figure.querySelector(".plot");
    const show = key === "lag" ? bytes : SERIES[key].show;
    const axis = { stroke: colour("soft"), grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line"), width: 1 }, font: "11px system-ui", labelFont: "11px system-ui" };
    charts.get(key)?.plot.destroy();
    const plot = new uPlot({
      width: box.clientWidth, height: 150, cursor: { y: false }, legend: { live: true },
      scales: { x: { time: true, range: () => { const now = Date.now() / 1000; return [now - SECONDS, now]; } }, y: { range: (u, low, high) => [0, Math.max(high ?? 0, key === "latency" ? 100 : 5) * 1.08] } },
      axes: [{ ...axis, space: 70, size: 28, values: (u, values) => values.map(clock) }, { ...axis, size: 62, space: 34, values: (u, values) => values.map(show) }],
      series: [{ label: "at", value: (u, value) => value == null ? "–" : clock(value) }, ...lines.map(([label, name]) => ({ label, stroke: colour(name), width: 1.5, points: { show: false }, spanGaps: false, value: (u, value) => show(value) }))],
    }, data(lines), box);
    charts.set(key, { plot, lines, names: lines.map(([label]) => label).join() });
  };
  const figures = [...place.querySelectorAll("[data-chart]")];
  const draw = () => figures.forEach((figure) => {
    const known = charts.get(figure.dataset.chart);
    const lines = linesOf(figure.dataset.chart);
    if (!known || known.names !== lines.map(([label]) => label).join()) make(figure);
    else known.plot.setData(data(lines));
  });

  const ask = async () => {
    if (!document.hidden) {
      const since = samples.length ? samples[samples.length - 1].time : 0;
      try {
        const answer = await fetch(`${place.dataset.history}?since=${since}`, { headers: { Accept: "application/json" } });
        if (answer.ok) {
          samples.push(...(await answer.json()).samples);
          if (samples.length > SECONDS) samples.splice(0, samples.length - SECONDS);
          draw();
        }
      } catch { /* the footer says that answers are missing */ }
    }
    setTimeout(ask, 1000);
  };
  let width = 0;
  new ResizeObserver(() => {
    if (place.clientWidth === width) return;
    width = place.clientWidth;
    charts.forEach(({ plot }, key) => plot.setSize({ width: place.querySelector(`[data-chart=${key}] .plot`).clientWidth, height: 150 }));
  }).observe(place);
  dark.addEventListener("change", () => figures.forEach(make));
  ask();
})();
