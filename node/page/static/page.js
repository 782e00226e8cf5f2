// What every page does: hear of changes, keys, theme. The pages also work without it, by forms and links.
"use strict";
{
  const body = document.body;
  const said = document.getElementById("said");

  /** Tell the user; assistive technology reads it out. */
  const say = (words, bad = false) => {
    said.textContent = words;
    said.classList.toggle("bad", bad);
    said.classList.add("shown");
    clearTimeout(say.timer);
    say.timer = setTimeout(() => said.classList.remove("shown"), bad ? 8000 : 2500);
  };

  // --- changes -----------------------------------------------------------------------------------------------------
  const live = document.querySelector(".live");
  let pending = false;
  const refresh = () => {
    // Several results within a moment are one refresh.
    if (pending) return;
    pending = true;
    setTimeout(() => {
      pending = false;
      htmx.trigger(body, "changed");
    }, 60);
  };
  if ("listens" in body.dataset) {
    const own = document.querySelector(".one-study")?.dataset.uid;
    const source = new EventSource("/events");
    source.addEventListener("changed", (event) => {
      live.textContent = "live";
      live.classList.add("on");
      const uids = JSON.parse(event.data);
      if (!own || !uids.length || uids.includes(own)) refresh();
    });
    source.addEventListener("error", () => {
      live.textContent = "not live";
      live.classList.remove("on");
      // The browser does not try again: the login has ended, and what is on the screen must not stay there.
      if (source.readyState === EventSource.CLOSED) location.reload();
    });
    addEventListener("pagehide", () => source.close());
  }
  // A refresh that nobody clicked for keeps nobody logged in.
  body.addEventListener("htmx:configRequest", (event) => {
    if (["worklist", "live"].includes(event.detail.elt.id)) event.detail.headers["X-Background"] = "1";
  });
  body.addEventListener("htmx:sendError", () => say("The node does not answer. What you see may be old.", true));
  body.addEventListener("htmx:responseError", (event) => {
    const status = event.detail.xhr.status;
    if (status !== 401) say(`That did not work (${status}). Reload the page and try again.`, true);
  });
  body.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.successful && event.detail.requestConfig.verb === "post") {
      const state = event.detail.requestConfig.parameters.state ?? event.detail.requestConfig.formData?.get("state");
      if (state === "read") say("Marked as read");
      if (state === "new") say("Marked as new");
    }
  });

  // --- theme -------------------------------------------------------------------------------------------------------
  const root = document.documentElement;
  document.getElementById("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("theme", root.dataset.theme);
  });

  // --- keys --------------------------------------------------------------------------------------------------------
  const keys = document.getElementById("keys");
  document.getElementById("help")?.addEventListener("click", () => keys.showModal());
  const studies = () => [...document.querySelectorAll(".study .name")];
  const current = () => document.activeElement?.closest?.(".study") ?? document.querySelector(".one-study");
  const press = (selector) => current()?.querySelector(selector)?.click();
  const step = (by) => {
    const all = studies();
    if (!all.length) return;
    const at = all.indexOf(document.activeElement?.closest?.(".study")?.querySelector(".name"));
    const next = all[at < 0 ? 0 : Math.min(all.length - 1, Math.max(0, at + by))];
    next.focus();
    next.closest(".study").scrollIntoView({ block: "nearest" });
  };
  const actions = {
    j: () => step(1),
    k: () => step(-1),
    v: () => press("a.viewer"),
    r: () => press("button.read"),
    u: () => press("button.unread"),
    w: () => location.assign("/"),
    "/": () => document.getElementById("q")?.focus(),
    "?": () => keys.showModal(),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || keys.open) return;
    if (event.target.closest("input, select, textarea")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}
