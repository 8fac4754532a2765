"use strict";
// Behind the report's own script, on a page that is served while its sweep runs: asks for news and shows them.
const EVERY = 2000, HIDDEN = 15000;  // milliseconds
const TRIES = 5;  // in a row that fail, before the sweep's process is taken for ended
const strip = make("section", {id: "live", style: "margin-bottom: 1.5rem"});
document.body.insertBefore(strip, $("page"));
let missed = 0, seen = "", mine = [];  // what was shown side by side before anybody chose

function now(moment) {
  if (!moment) return [];
  const going = moment.rows.filter(r => ["running", "waiting"].includes(r.state));
  const head = ["trial", ...moment.dimensions.map(d => data && data.name ? named(d) : d), "epoch", moment.metric, "state", "why"];
  const row = r => make("tr", {"data-now": r.number}, ...[r.number, ...r.settings, `${r.epoch}/${moment.epochs}`, r.score, r.state]
    .map(v => make("td", {}, text(v))), make("td", {class: "left", style: "min-width: 15rem"}, [r.why, r.wrong].filter(Boolean).join("; ")));
  const table = make("div", {class: "scroll", style: "max-height: 16rem"}, make("table", {id: "now"},
    make("thead", {}, make("tr", {}, ...head.map(h => make("th", h === "why" ? {class: "left"} : {}, h)))), make("tbody", {}, ...going.map(row))));
  return [make("p", {class: "answer"}, moment.head), ...[moment.spent, moment.last, moment.books].filter(Boolean).map(words => make("p", {class: "soft"}, words)),
    ...(going.length ? [table] : [])];
}
function running_first(moment) {
  const running = moment ? moment.rows.filter(r => r.state === "running").map(r => r.number) : [];
  return [...new Set([data.winner, ...running])].filter(n => byNumber.has(n)).slice(0, CHOSEN.length);
}
async function news() {
  try {
    const said = await (await fetch(`data?seen=${encodeURIComponent(seen)}`)).json();
    if (said.sweep && !$("zoom").open) {
      const place = scrollY, untouched = !data || String(chosen) === String(mine);
      seen = said.seen;
      sweeps[0] = said.sweep;
      show(said.sweep);
      if (untouched) { chosen = mine = running_first(said.moment); draw(); }
      document.title = `${data.name}: running`;
      scrollTo(0, place);
    }
    strip.replaceChildren(...now(said.moment), ...(said.says ? [make("p", {class: "soft"}, said.says)] : []));
    missed = 0;
    setTimeout(news, document.hidden ? HIDDEN : EVERY);
  } catch (error) {
    if (++missed < TRIES) return setTimeout(news, EVERY);
    strip.prepend(make("p", {class: "answer", id: "over"}, "The sweep's process has ended: this is its last state that was read here."));
    document.title = document.title.replace("running", "ended");
  }
}
news();
