// Curves of a job: a small chart per step kind and metric, from /jobs/{id}/curves.json; on its own page live, from the event stream.
(() => {
  "use strict";
  const panel = document.querySelector("[data-curves]");
  if (!panel) return;
  const job = document.querySelector("[data-job]");
  const area = panel.querySelector(".curves");
  const charts = new Map();
  let titles = {};
  let metrics = {};
  let dull = [];
  let looked = [];
  let alone = false;
  const MAX_POINTS = 3000;

  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const short = (value) => value == null ? "–" : String(Number(value.toPrecision(3)));

  function options(chart) {
    const line = { stroke: color("--line"), width: 1 };
    const axis = { stroke: color("--muted"), grid: line, ticks: line, font: "11px system-ui, sans-serif" };
    return {
      width: chart.box.clientWidth,
      height: 180,
      cursor: { drag: { x: true, y: false } },
      scales: { x: { time: false }, y: { range: (_, low, high) => low === high ? [low - (low || 1) / 2, high + (low || 1) / 2] : uPlot.rangeNum(low, high, 0.1, true) } },
      axes: [{ ...axis, size: 30, space: 60 }, { ...axis, size: 52, values: (_, ticks) => ticks.map(short) }],
      series: [
        { label: chart.unit },
        { label: chart.words, stroke: color(`--series-${chart.index % 5 + 1}`), width: 1.75, points: { show: looked.includes(chart.metric) }, value: (_, value) => short(value) },
      ],
    };
  }

  function draw(chart) {
    if (chart.plot) chart.plot.destroy();
    chart.plot = new uPlot(options(chart), [chart.x, chart.y], chart.box);
  }

  function redraw() {
    for (const chart of charts.values()) draw(chart);
  }

  function open(curve) {
    const figure = document.createElement("div");
    const heading = document.createElement("h3");
    const box = document.createElement("div");
    figure.className = "curve";
    // The title names the step, which says nothing where one step only learns.
    heading.textContent = alone ? curve.words[0].toUpperCase() + curve.words.slice(1) : curve.title;
    figure.append(heading, box);
    area.append(figure);
    panel.hidden = false;
    const chart = { ...curve, index: charts.size, box, plot: null };
    charts.set(`${curve.step} ${curve.metric}`, chart);
    return chart;
  }

  // The same rule as in job_log.py: a step that begins again goes on to the right, a resumed one repeats nothing.
  function extend(chart, done, value) {
    if (done < chart.last / 2) { chart.offset += chart.last; chart.last = 0; }
    if (done <= chart.last) return;
    chart.last = done;
    chart.x.push(chart.offset + done);
    chart.y.push(value);
    if (chart.x.length > MAX_POINTS) { chart.x.shift(); chart.y.shift(); }
    if (chart.plot) chart.plot.setData([chart.x, chart.y]);
    else draw(chart);
  }

  function grow(data) {
    if (!(data.kind in titles)) return;
    for (const [metric, value] of Object.entries(data.metrics || {})) {
      if (!Number.isFinite(value) || dull.includes(metric)) continue;
      const known = charts.get(`${data.kind} ${metric}`);
      const place = looked.includes(metric) ? data.metrics.look_step ?? data.done : data.done;
      const words = metrics[metric] || metric.replaceAll("_", " ");
      const title = `${titles[data.kind]}: ${words}`;
      extend(known || open({ step: data.kind, metric, title, words, unit: data.unit || "steps", offset: 0, last: 0, x: [], y: [] }), place, value);
    }
  }

  async function start() {
    const answer = await fetch(panel.dataset.curves);
    if (!answer.ok) return;
    const found = await answer.json();
    ({ titles, metrics, dull, looked, alone } = found);
    found.curves.forEach(open);
    redraw();
    job?.addEventListener("jobevent", (event) => {
      if (event.detail.type === "step.progress") grow(event.detail.data);
    });
    let width = area.clientWidth;
    new ResizeObserver(() => {
      if (Math.abs(area.clientWidth - width) > 4) { width = area.clientWidth; redraw(); }
    }).observe(area);
    document.addEventListener("themechange", redraw);
  }

  start();
})();
