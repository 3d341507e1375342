"""One self-contained page: the SVG, to be dragged and zoomed, and the whole of a value wherever the pointer rests.

Without scripts the page still shows the whole drawing, with the browser's own tooltips.
"""

from gpugrad.draw.scene import Scene
from gpugrad.draw.svg import escape, svg_text


def html_text(scene: Scene) -> str:
    """The scene as an HTML page that loads nothing from anywhere."""
    title = escape(scene.title or "Computational graph")
    head, rest = _PAGE.split("@TITLE@")  # split, not replaced: the title may hold any text
    body, end = rest.split("@SVG@")
    return head + title + body + svg_text(scene) + end


_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>@TITLE@</title>
<style>
  body { margin: 0; font: 15px Helvetica, Arial, sans-serif; color: #1a1a1a; background: #fff; }
  #view { height: 100vh; overflow: auto; }
  .script #view { overflow: hidden; cursor: grab; touch-action: none; }
  .script #view:active { cursor: grabbing; }
  #view:focus-visible { outline: 2px solid #1d4ed8; outline-offset: -2px; }
  .script svg { width: 100%; height: 100%; user-select: none; }
  .edge:hover path, .edge:focus path { stroke: #1d4ed8; stroke-width: 3; }
  .node:hover rect, .node:focus rect { stroke-width: 3; }
  .edge, .node { outline: none; }
  .edge .reach { stroke: transparent; stroke-width: 14; pointer-events: stroke; }
  #buttons { position: fixed; right: 12px; top: 12px; display: none; gap: 6px; }
  .script #buttons { display: flex; }
  button { font: inherit; min-width: 36px; height: 36px; color: inherit; background: #fff; border: 1px solid #5b6670;
           border-radius: 6px; cursor: pointer; }
  #tip { position: fixed; max-width: 60vw; max-height: 60vh; overflow: hidden; padding: 8px 10px; display: none;
         font: 14px ui-monospace, Menlo, Consolas, monospace; white-space: pre-wrap; color: #1a1a1a;
         background: #fffef5; border: 1px solid #5b6670; border-radius: 6px; pointer-events: none; }
</style>
</head>
<body>
<div id="view" tabindex="0" aria-label="Graph: drag to move, scroll or + and - to zoom, 0 to fit">
@SVG@</div>
<div id="buttons">
  <button id="in" title="Zoom in (+)">+</button>
  <button id="out" title="Zoom out (-)">−</button>
  <button id="fit" title="Show everything (0)">Fit</button>
</div>
<div id="tip" role="status"></div>
<script>
"use strict";
const view = document.getElementById("view"), svg = view.querySelector("svg"), tip = document.getElementById("tip");
const whole = { x: 0, y: 0, w: svg.width.baseVal.value, h: svg.height.baseVal.value };
const room = () => Math.max(whole.w / view.clientWidth, whole.h / view.clientHeight);
let at, scale;  // the drawing's point in the upper left corner, and drawing pixels per screen pixel

function show() {
  svg.setAttribute("viewBox", [at.x, at.y, view.clientWidth * scale, view.clientHeight * scale].join(" "));
}
function fit() {
  scale = Math.max(room(), 0.5);
  at = { x: (whole.w - view.clientWidth * scale) / 2, y: (whole.h - view.clientHeight * scale) / 2 };
  show();
}
function start() {  // all of it where that needs no shrinking, else 100 % from the upper left corner
  fit();
  if (scale > 1) {
    scale = 1;
    at = { x: Math.min(0, (whole.w - view.clientWidth) / 2), y: Math.min(0, (whole.h - view.clientHeight) / 2) };
    show();
  }
}
function zoom(factor, x = view.clientWidth / 2, y = view.clientHeight / 2) {
  const next = Math.min(Math.max(scale * factor, 0.1), Math.max(4, 2 * room()));
  at = { x: at.x + x * (scale - next), y: at.y + y * (scale - next) };
  scale = next;
  show();
}
function move(dx, dy) {
  at = { x: at.x - dx * scale, y: at.y - dy * scale };
  show();
}

document.body.classList.add("script");
svg.setAttribute("preserveAspectRatio", "xMinYMin");
start();
addEventListener("resize", show);
document.getElementById("in").onclick = () => zoom(1 / 1.25);
document.getElementById("out").onclick = () => zoom(1.25);
document.getElementById("fit").onclick = fit;
view.addEventListener("wheel", e => { e.preventDefault(); zoom(Math.exp(e.deltaY / 500), e.clientX, e.clientY); },
                      { passive: false });
view.addEventListener("pointerdown", e => view.setPointerCapture(e.pointerId));
view.addEventListener("pointermove", e => { if (e.buttons & 1) move(e.movementX, e.movementY); });
view.addEventListener("keydown", e => {
  const keys = { "+": () => zoom(1 / 1.25), "=": () => zoom(1 / 1.25), "-": () => zoom(1.25), "0": fit,
                 ArrowLeft: () => move(60, 0), ArrowRight: () => move(-60, 0),
                 ArrowUp: () => move(0, 60), ArrowDown: () => move(0, -60) };
  if (keys[e.key] && !e.ctrlKey && !e.metaKey) { e.preventDefault(); keys[e.key](); }
});

for (const part of svg.querySelectorAll(".node, .edge")) {
  const title = part.querySelector("title"), text = title.textContent;
  title.remove();  // else the browser would show it a second time
  const line = part.querySelector("path");
  if (line) { const reach = line.cloneNode(); reach.classList.add("reach"); part.prepend(reach); }
  if (!text) continue;
  part.setAttribute("tabindex", "0");
  part.setAttribute("aria-label", text);
  const say = (x, y) => {
    tip.textContent = text;
    tip.style.display = "block";
    tip.style.left = Math.max(4, Math.min(x + 14, innerWidth - tip.offsetWidth - 8)) + "px";
    tip.style.top = Math.max(4, Math.min(y + 14, innerHeight - tip.offsetHeight - 8)) + "px";
  };
  const hush = () => { tip.style.display = "none"; };
  part.addEventListener("pointermove", e => { if (!e.buttons) say(e.clientX, e.clientY); });
  part.addEventListener("pointerleave", hush);
  part.addEventListener("focus", () => { const r = part.getBoundingClientRect(); say(r.right, r.top); });
  part.addEventListener("blur", hush);
}
</script>
</body>
</html>
"""
