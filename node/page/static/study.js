// The image of a study: window and level on the 12-bit presentation values, evidence maps and masks on and off.
"use strict";
for (const section of document.querySelectorAll("section.image")) {
  const layers = section.querySelector(".layers");
  if (!layers) continue;
  const panel = section.querySelector(".panel");
  const canvas = layers.querySelector("canvas");
  const preview = layers.querySelector("img.grey");
  const width = panel.querySelector(".window-width");
  const level = panel.querySelector(".window-level");
  const invert = panel.querySelector(".window-invert");
  let pixels = null;
  let fetching = null;

  const draw = () => {
    panel.querySelector(".width-shown").value = width.value;
    panel.querySelector(".level-shown").value = level.value;
    if (!pixels) return;
    const context = canvas.getContext("2d");
    const image = context.createImageData(canvas.width, canvas.height);
    const shown = new Uint32Array(image.data.buffer);
    const low = Number(level.value) - Number(width.value) / 2;
    const inverted = invert.getAttribute("aria-pressed") === "true";
    const table = new Uint32Array(4096);
    for (let value = 0; value < 4096; value++) {
      let grey = Math.max(0, Math.min(255, Math.round(((value - low) / Number(width.value)) * 255)));
      if (inverted) grey = 255 - grey;
      table[value] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
    }
    for (let i = 0; i < pixels.length; i++) shown[i] = table[pixels[i] & 0xfff];
    context.putImageData(image, 0, 0);
    canvas.hidden = false;
    preview.classList.add("under");
  };
  let waits = false;
  const soon = () => {
    if (waits) return;
    waits = true;
    requestAnimationFrame(() => {
      waits = false;
      draw();
    });
  };
  const take = async () => {
    const answer = await fetch(layers.dataset.pixels);
    return answer.ok ? new Uint16Array(await answer.arrayBuffer()) : null;
  };
  /** The pixels are fetched when somebody first changes the window: the preview shows the default one. */
  const change = async () => {
    if (!pixels) {
      // A drag changes it many times before they are there: one request.
      fetching ??= take().finally(() => (fetching = null));
      pixels = await fetching;
    }
    if (pixels) soon();
  };
  width.addEventListener("input", change);
  level.addEventListener("input", change);
  invert.addEventListener("click", () => {
    invert.setAttribute("aria-pressed", String(invert.getAttribute("aria-pressed") !== "true"));
    change();
  });
  panel.querySelector(".window-reset").addEventListener("click", () => {
    width.value = width.defaultValue;
    level.value = level.defaultValue;
    invert.setAttribute("aria-pressed", "false");
    soon();
  });
  let from = null;
  layers.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    from = { x: event.clientX, y: event.clientY, width: Number(width.value), level: Number(level.value) };
    layers.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  layers.addEventListener("pointermove", (event) => {
    if (!from) return;
    width.value = from.width + (event.clientX - from.x) * 8;
    level.value = from.level + (event.clientY - from.y) * 6;
    change();
  });
  for (const end of ["pointerup", "pointercancel"]) layers.addEventListener(end, () => (from = null));

  const evidence = panel.querySelector(".evidence-of");
  const showEvidence = () => {
    for (const each of layers.querySelectorAll(".evidence")) each.hidden = each.dataset.target !== evidence.value;
  };
  let lastEvidence = evidence?.value;
  evidence?.addEventListener("change", showEvidence);
  const masks = [...panel.querySelectorAll(".mask-of")];
  const showMask = (box) => {
    layers.querySelector(`.mask[data-segment="${box.value}"]`).hidden = !box.checked;
  };
  for (const box of masks) {
    box.addEventListener("change", () => showMask(box));
    showMask(box);
  }
  panel.querySelector(".tubes")?.addEventListener("change", (event) => {
    for (const each of layers.querySelectorAll(".overlay")) each.classList.toggle("off", !event.target.checked);
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest('input:not([type="checkbox"]), select, textarea')) return;
    // Held, it would flicker.
    if (event.repeat) return;
    if (event.key === "e" && evidence) {
      if (evidence.value) lastEvidence = evidence.value;
      evidence.value = evidence.value ? "" : lastEvidence || evidence.options[1]?.value || "";
      showEvidence();
    }
    if (event.key === "m" && masks.length) {
      const on = !masks.some((box) => box.checked);
      for (const box of masks) {
        box.checked = on;
        showMask(box);
      }
    }
  });
}
