// Charts of tables that stand on the page: who has no script reads the table.
"use strict";

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function column(rows, name) {
  return rows.map((row) => Number(row.dataset[name]));
}

function draw(place) {
  const rows = [...document.querySelectorAll(`#${CSS.escape(place.dataset.chart)} tbody tr`)];
  const labels = rows.map((row) => row.dataset.label);
  const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
  const bars = uPlot.paths.bars({ size: [0.7, 40] });
  const passed = column(rows, "passed");
  const failed = column(rows, "failed");
  place.replaceChildren();
  return new uPlot({
    width: place.clientWidth,
    height: 240,
    scales: { x: { time: false, range: [-0.6, rows.length - 0.4] }, count: { range: (_, __, most) => [0, Math.max(1, most)] }, s: { range: (_, __, most) => [0, most * 1.15 || 1] } },
    axes: [
      { ...axis, grid: { show: false }, values: (_, places) => places.map((at) => labels[at] ?? ""), incrs: [1, 2, 5, 10, 20] },
      { ...axis, scale: "count", label: "results", size: 44, labelSize: 20, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000] },
      { ...axis, scale: "s", label: "mean seconds", side: 1, grid: { show: false }, size: 54, labelSize: 20 },
    ],
    series: [
      { label: "run", value: (_, at) => labels[at] ?? "" },
      { label: "failed", scale: "count", paths: bars, points: { show: false }, fill: colour("--bad-fill"), stroke: colour("--bad-fill"), value: (_, __, ___, at) => at === null ? "" : String(failed[at]) },
      { label: "passed", scale: "count", paths: bars, points: { show: false }, fill: colour("--good-fill"), stroke: colour("--good-fill"), value: (_, count) => count ?? "" },
      { label: "mean seconds", scale: "s", stroke: colour("--link"), width: 2, points: { size: 6, fill: colour("--paper") }, value: (_, seconds) => seconds === null || seconds === undefined ? "" : `${seconds.toPrecision(3)} s` },
    ],
  }, [rows.map((_, at) => at), passed.map((count, at) => count + failed[at]), passed, column(rows, "seconds")], place);
}

function drawAll() {
  for (const place of document.querySelectorAll("[data-chart]")) draw(place);
}

document.addEventListener("DOMContentLoaded", () => {
  drawAll();
  let waiting = null;
  window.addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(drawAll, 150); });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
});
