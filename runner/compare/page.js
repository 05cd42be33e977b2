// Values at a place of a chart: under the pointer, or by the arrow keys. All else on the page works without this.
"use strict";
const { runs, charts } = JSON.parse(document.getElementById("points").textContent);
const digits = new Intl.NumberFormat("en", { maximumSignificantDigits: 5 });

/** The number of the value of rising xs that is nearest to x. */
function nearest(xs, x) {
  let low = 0, high = xs.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (xs[middle] < x) low = middle + 1; else high = middle;
  }
  return low > 0 && x - xs[low - 1] < xs[low] - x ? low - 1 : low;
}

for (const figure of document.querySelectorAll(".chart")) {
  const curves = charts[figure.dataset.chart];
  const plot = figure.querySelector(".plot"), cursor = figure.querySelector(".cursor"), readout = figure.querySelector(".readout");
  const end = Math.max(...curves.map((curve) => curve.x[curve.x.length - 1])) || 1;
  const places = [...new Set(curves.flatMap((curve) => curve.x))].sort((a, b) => a - b);
  let at = places.length - 1;

  function shown(place) {
    at = place;
    const x = places[at];
    cursor.hidden = readout.hidden = false;
    cursor.style.left = `${(100 * x) / end}%`;
    readout.replaceChildren(word(`at ${digits.format(x)}`));
    for (const curve of curves) {
      if (!document.getElementById(`show-${curve.run}`).checked || x > curve.x[curve.x.length - 1]) continue;
      const y = curve.y[nearest(curve.x, x)];
      if (y !== null) readout.append(word(`${runs[curve.run]} ${digits.format(y)}`, curve.run));
    }
  }
  function word(text, run) {
    const found = document.createElement(run === undefined ? "span" : "b");
    found.textContent = text;
    if (run !== undefined) found.className = `r${run % 10}`;
    return found;
  }
  function gone() { cursor.hidden = readout.hidden = true; }

  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    shown(nearest(places, (end * (event.clientX - box.left)) / box.width));
  });
  plot.addEventListener("pointerleave", gone);
  plot.addEventListener("blur", gone);
  plot.addEventListener("keydown", (event) => {
    const far = Math.max(1, Math.round(places.length / 10));
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, PageDown: at - far, PageUp: at + far, Home: 0, End: places.length - 1 }[event.key];
    if (event.key === "Escape") gone();
    if (to === undefined) return;
    event.preventDefault();
    shown(Math.min(Math.max(to, 0), places.length - 1));
  });
}
