"use strict";
(() => {
  const root = document.documentElement;
  const css = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const cells = () => [...document.querySelectorAll(".cell:not([hidden])")];
  const opened = new Map();                       // .charts element -> its drawn charts

  // ---- light and dark ------------------------------------------------------------------------------------------
  const dark = matchMedia("(prefers-color-scheme: dark)");
  document.getElementById("theme").addEventListener("click", () => {
    const now = root.dataset.theme || (dark.matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
    redraw();
  });
  dark.addEventListener("change", () => redraw());

  // ---- charts: drawn when they come into sight -------------------------------------------------------------------
  async function unpack(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  }

  function shade(faults) {
    return (plot) => {
      const { ctx } = plot, { top, height, left, width } = plot.bbox, right = left + width;
      const band = (from, to, colour, alpha) => {
        const x0 = Math.max(left, plot.valToPos(from, "x", true));
        const x1 = Math.min(right, to === null ? right : plot.valToPos(to, "x", true));
        if (x1 <= x0) return;
        ctx.globalAlpha = alpha; ctx.fillStyle = colour; ctx.fillRect(x0, top, Math.max(x1 - x0, 2), height);
      };
      ctx.save();
      for (const fault of faults) {
        band(fault.begin_s, fault.mended_s, css("--fault"), fault.bit ? .24 : .08);
        if (fault.mended_s !== null) band(fault.mended_s, fault.recovered_s, css("--recover"), .2);
      }
      ctx.restore();
    };
  }

  function chart(place, title, data, columns, unit, key) {
    const axis = { stroke: css("--soft"), grid: { stroke: css("--line"), width: 1 }, ticks: { stroke: css("--line"), width: 1 }, font: "11px system-ui, sans-serif" };
    const series = columns.map(([name, label, colour, dash]) => ({ label, stroke: css(colour), width: 1.8, dash, spanGaps: false, points: { show: false }, value: (_, v) => v === null || v === undefined ? "" : v.toLocaleString("en") + " " + unit }));
    return new uPlot({
      title, width: place.clientWidth, height: place.clientWidth < 500 ? 190 : 220, cursor: { sync: { key }, drag: { x: true, y: false } },
      scales: { x: { time: false }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.08 : 1] } },
      axes: [{ ...axis, values: (_, all) => all.map((v) => v + " s") }, { ...axis, size: 58, values: (_, all) => all.map((v) => v.toLocaleString("en")) }],
      series: [{ label: "time", value: (_, v) => v === null || v === undefined ? "" : v.toFixed(2) + " s" }, ...series],
      hooks: { drawClear: [shade(data.faults)] },
    }, [data.time_s, ...columns.map(([name]) => data[name])], place);
  }

  function draw(charts, data) {
    (opened.get(charts)?.plots || []).forEach((plot) => plot.destroy());
    const key = charts.closest(".cell").id, place = (name) => charts.querySelector(`[data-chart=${name}]`);
    const plots = [
      chart(place("rates"), "Messages a second; shaded: fault, then recovery", data, [["attempted_hz", "attempted", "--series-1", [6, 4]], ["acked_hz", "acked", "--series-2"], ["delivered_hz", "delivered", "--series-3", [2, 3]]], "/s", key),
      chart(place("latency"), "Publish to first receipt, ms", data, [["p50_ms", "median", "--series-2"], ["p99_ms", "99th percentile", "--series-3", [6, 4]]], "ms", key),
    ];
    opened.set(charts, { plots, data });
  }

  async function show(charts) {
    if (opened.has(charts)) return;
    opened.set(charts, { plots: [], data: null });
    try { draw(charts, await unpack(charts.dataset.columns)); }
    catch (error) { charts.querySelector(".chart").textContent = "This browser cannot draw the charts (" + error + "); the tables say the same."; }
  }

  function redraw() { for (const [charts, { data }] of opened) if (data) draw(charts, data); }
  const sight = new IntersectionObserver((entries) => entries.forEach((entry) => entry.isIntersecting && show(entry.target)), { rootMargin: "300px" });
  document.querySelectorAll(".charts").forEach((charts) => sight.observe(charts));
  const first = document.querySelector(".cell > details[open] .charts");   // in sight without waiting for a frame
  if (first) show(first);
  let timer = 0;
  addEventListener("resize", () => { clearTimeout(timer); timer = setTimeout(redraw, 150); });

  // ---- every point as a table --------------------------------------------------------------------------------------
  document.querySelectorAll(".all-points").forEach((button) => button.addEventListener("click", async () => {
    const charts = button.closest(".cell-body").querySelector(".charts");
    const data = await unpack(charts.dataset.columns);
    const columns = ["time_s", "attempted_hz", "acked_hz", "delivered_hz", "p50_ms", "p99_ms"];
    const table = document.createElement("table"), head = table.createTHead().insertRow();
    table.className = "data";
    columns.forEach((name) => { const cell = document.createElement("th"); cell.textContent = name; cell.scope = "col"; head.append(cell); });
    const body = table.createTBody();
    data.time_s.forEach((_, row) => { const line = body.insertRow(); columns.forEach((name) => { const cell = line.insertCell(); cell.className = "n"; cell.textContent = data[name][row] ?? "none"; }); });
    const box = document.createElement("div"); box.className = "scroll"; box.append(table);
    button.replaceWith(box);
  }));

  // ---- links, filter, keys ------------------------------------------------------------------------------------------
  function reveal() {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target || !target.classList.contains("cell")) return;
    target.hidden = false;
    const details = target.querySelector(":scope > details");
    if (details) details.open = true;
    target.scrollIntoView();
  }
  addEventListener("hashchange", reveal);
  reveal();

  const buttons = [...document.querySelectorAll("[data-show]")];
  buttons.forEach((button) => button.addEventListener("click", () => {
    buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
    document.querySelectorAll(".cell").forEach((cell) => { cell.hidden = button.dataset.show !== "all" && cell.dataset.grade !== button.dataset.show; });
  }));

  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) return;
    const all = cells(), here = all.findIndex((cell) => cell.id === location.hash.slice(1));
    if (event.key === "j" && all.length) location.hash = all[Math.min(here + 1, all.length - 1)].id;
    else if (event.key === "k" && all.length) location.hash = all[Math.max(here - 1, 0)].id;
    else if (event.key === "m") location.hash = "matrix";
    else if (event.key === "o" && here >= 0) { const details = all[here].querySelector(":scope > details"); if (details) details.open = !details.open; }
    else return;
    event.preventDefault();
  });

  // A printed page shows everything.
  addEventListener("beforeprint", () => document.querySelectorAll(".cell details").forEach((details) => { details.open = true; }));
})();
