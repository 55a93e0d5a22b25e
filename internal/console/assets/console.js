// What moves on a page: figures by server-sent events, charts, and the parts of a page
// that are read anew. Without it every page still says what was so when it was made.
"use strict";
(() => {
  const $ = (of, in_ = document) => in_.querySelectorAll(of);
  const body = document.body;
  const each = (attribute, values, set) => {
    for (const e of $("[" + attribute + "]")) {
      const v = values[e.getAttribute(attribute)];
      if (v !== undefined) set(e, v);
    }
  };

  // Figures.
  const pulse = document.getElementById("pulse"), pulseText = document.getElementById("pulse-text");
  const beat = on => {
    if (!pulse || pulse.dataset.state === String(on)) return;
    pulse.dataset.state = on;
    pulseText.textContent = on ? pulse.dataset.liveWord : pulse.dataset.lost;
  };
  const text = (e, v) => { if (e.textContent !== v) e.textContent = v; };
  const alerts = document.getElementById("alerts");
  const showAlerts = list => {
    if (!alerts) return;
    const said = list.length ? list : [{ state: "ok", text: alerts.dataset.none }];
    const is = said.map(a => a.state + a.text).join("\n");
    if (alerts.dataset.is === is) return; // a reader of screens is told of news only
    alerts.dataset.is = is;
    alerts.replaceChildren(...said.map(a => {
      const li = document.createElement("li");
      li.dataset.state = a.state;
      li.textContent = a.text;
      return li;
    }));
  };
  const take = event => {
    const now = JSON.parse(event.data);
    beat(true);
    each("data-live-text", now.text, text);
    each("data-live-meter", now.meter, (e, v) => { e.value = v; });
    each("data-live-state", now.state, (e, v) => {
      if (e.dataset.state === v) return;
      e.dataset.state = v;
      if (e.classList.contains("state")) e.textContent = body.dataset[v];
    });
    showAlerts(now.alerts[document.documentElement.lang] || []);
    extend(now);
    signs();
    refresh();
    body.dataset.liveAt = now.at;
  };
  if ("live" in body.dataset) {
    const source = new EventSource("/live");
    source.onmessage = take;
    source.onerror = () => beat(false);
    addEventListener("pagehide", () => source.close());
  }

  // A table that is wider than its place says so, as long as there is more to the right.
  function signs() {
    for (const e of $(".scroll")) {
      const more = e.scrollWidth - e.clientWidth - e.scrollLeft > 1 ? body.dataset.more : undefined;
      if (more === e.dataset.more) continue;
      if (more) e.dataset.more = more;
      else delete e.dataset.more;
    }
  }

  // Parts of the page that are read anew, at most every two seconds, or as many as
  // they name; one that comes without data-refresh is read no more. What somebody is in
  // the middle of is left alone.
  let reading = false, readAt = Date.now();
  const read = new Map([...$("[data-refresh]")].map(part => [part, part.innerHTML])); // as it came, without signs
  async function refresh() {
    const parts = [...$("[data-refresh]")];
    const pause = Math.max(...parts.map(part => +part.dataset.refresh || 2)) * 1000 - 100;
    if (!parts.length || reading || Date.now() - readAt < pause || document.hidden) return;
    if (location.search.includes("search=") || location.search.includes("cursor=")) return; // each search is on the record
    reading = true;
    try {
      const answer = await fetch(location.pathname, { headers: { Accept: "text/html" } });
      if (!answer.ok || answer.redirected) return;
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const part of parts) {
        const other = fresh.getElementById(part.id);
        if (!other || part.contains(document.activeElement)) continue;
        if (!("refresh" in other.dataset)) delete part.dataset.refresh;
        if (other.innerHTML === read.get(part)) continue;
        read.set(part, other.innerHTML);
        part.replaceChildren(...other.childNodes);
      }
      signs();
    } catch { /* the pulse says that there is no connection */ } finally {
      reading = false;
      readAt = Date.now();
    }
  }

  // Charts.
  const charts = [];
  let span = "15m", step = 10;
  const spans = { "15m": 900, "1h": 3600, "6h": 21600, "24h": 86400 };
  const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const two = n => String(n).padStart(2, "0");
  const hour = s => { const d = new Date(s * 1000); return two(d.getHours()) + ":" + two(d.getMinutes()); };
  const make = (e, data) => {
    const line = colour("--accent"), ink = colour("--ink-2"), grid = colour("--line");
    const axis = { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const now = Date.now() / 1000;
    return new uPlot({
      width: e.clientWidth, height: 168, legend: { show: false }, padding: [8, 20, 0, 0],
      cursor: { y: false, points: { size: 6 } },
      scales: { x: { time: true, range: () => [Date.now() / 1000 - spans[span], Date.now() / 1000] }, y: { range: (_, lo, hi) => [0, hi > 0 ? hi * 1.15 : 1] } },
      axes: [{ ...axis, size: 28, space: 64, values: (_, all) => all.map(hour) }, { ...axis, size: 46, values: (_, all) => all.map(v => v >= 1000 ? (v / 1000) + "k" : String(+v.toFixed(2))) }],
      series: [{}, { stroke: line, width: 1.5, fill: colour("--accent-wash"), spanGaps: false, points: { show: false } }],
    }, data, e);
  };
  const draw = all => {
    for (const c of charts) c.plot.destroy();
    charts.length = 0;
    step = all.step;
    for (const e of $(".chart")) {
      const name = e.dataset.series, scale = +e.dataset.scale || 1;
      const data = [all.t.slice(), all[name].map(v => v === null ? null : v * scale)];
      e.replaceChildren();
      charts.push({ e, name, scale, data, plot: make(e, data) });
    }
  };
  // A live point stands for the step that is not over yet.
  function extend(now) {
    const at = Math.floor(now.at / 1000 / step) * step;
    for (const c of charts) {
      const raw = now.point[c.name] ?? null, v = raw === null ? null : raw * c.scale, [t, y] = c.data;
      if (t.length && t[t.length - 1] >= at) y[y.length - 1] = v;
      else { t.push(at); y.push(v); }
      while (t.length > 2 && t[0] < at - spans[span]) { t.shift(); y.shift(); }
      c.plot.setData(c.data);
    }
  }
  async function load() {
    const answer = await fetch("/history?span=" + span);
    if (answer.ok) draw(await answer.json());
  }
  if ($(".chart").length && window.uPlot) {
    for (const b of $("[data-span]")) {
      b.addEventListener("click", () => {
        span = b.dataset.span;
        for (const other of $("[data-span]")) other.setAttribute("aria-pressed", other === b);
        load();
      });
    }
    let width = 0;
    new ResizeObserver(() => {
      const w = $(".chart")[0].clientWidth;
      if (w === width) return;
      width = w;
      for (const c of charts) c.plot.setSize({ width: c.e.clientWidth, height: 168 });
    }).observe($(".chart")[0]);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", load);
    load();
  }

  addEventListener("scroll", signs, true);
  addEventListener("resize", signs);
  signs();

  document.querySelector(".menu [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

  // The sheet of the header closes when somebody goes elsewhere.
  const me = document.querySelector("details.me");
  addEventListener("click", e => { if (me && me.open && !me.contains(e.target)) me.open = false; });
  addEventListener("keydown", e => {
    if (e.key !== "Escape") return;
    for (const d of $("details.me[open], details.ask[open]")) { d.open = false; d.querySelector("summary").focus(); }
  });
})();
