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
  const REFRESH_MS = 400;
  let refreshed = -Infinity;
  let refreshing = false;
  /** The first of a burst of changes is shown at once, the others together. */
  const refresh = () => {
    if (refreshing) return;
    refreshing = true;
    setTimeout(
      () => {
        refreshing = false;
        refreshed = performance.now();
        htmx.trigger(body, "changed");
      },
      Math.max(0, refreshed + REFRESH_MS - performance.now()),
    );
  };
  const EVENTS = "/events";
  const STEADY_MS = 10_000;
  const MOST_SECONDS = 30;
  const own = document.querySelector(".one-study")?.dataset.uid;
  let source = null;
  let again = 0;
  let looking = null;
  let failures = 0;

  const show = (words, on = false) => {
    live.textContent = words;
    live.classList.toggle("on", on);
  };
  const close = () => {
    clearTimeout(again);
    looking?.abort();
    source?.close();
    source = looking = null;
  };
  const open = () => {
    close();
    // A stream takes one of the six connections that a browser has to a host over HTTP/1.1: only a page that is seen
    // may have one, or the seventh tab would wait for ever.
    if (document.hidden) {
      show("not live");
      return;
    }
    const opened = (source = new EventSource(EVENTS));
    let since = Infinity;
    opened.addEventListener("changed", (event) => {
      since = Math.min(since, performance.now());
      show("live", true);
      const uids = JSON.parse(event.data);
      // The first event of a stream names nothing: what changed before it was not told.
      if (!own || !uids.length || uids.includes(own)) refresh();
    });
    opened.addEventListener("error", () => {
      if (source !== opened) return;
      const refused = opened.readyState === EventSource.CLOSED;
      close();
      show("not live");
      failures = performance.now() - since > STEADY_MS ? 1 : failures + 1;
      if (refused) look();
      else later();
    });
  };
  /** A stream that was refused does not say why: asked for once more, only for the status. */
  const look = async () => {
    const asked = (looking = new AbortController());
    let status = 0;
    try {
      status = (await fetch(EVENTS, { headers: { Accept: "text/event-stream" }, signal: asked.signal })).status;
    } catch {
      // No answer at all: tried again like any other refusal, and "not live" stands there.
    }
    asked.abort();
    if (looking !== asked) return;
    looking = null;
    // The login has ended, and what is on the screen must not stay there.
    if (status === 401) location.reload();
    else later();
  };
  const later = () => {
    // Not all pages at once when the server is back.
    const seconds = Math.min(MOST_SECONDS, 2 ** (failures - 1)) * (0.5 + Math.random() / 2);
    again = setTimeout(open, seconds * 1000);
  };
  if ("listens" in body.dataset) {
    open();
    document.addEventListener("visibilitychange", () => {
      failures = 0;
      open();
      if (!document.hidden) refresh();
    });
    addEventListener("pagehide", close);
    addEventListener("pageshow", (event) => {
      // Out of the browser's back and forward cache: as it was left, which may be long ago.
      if (!event.persisted) return;
      failures = 0;
      open();
      refresh();
    });
  }
  // A refresh that nobody clicked for keeps nobody logged in.
  body.addEventListener("htmx:configRequest", (event) => {
    const { elt, headers } = event.detail;
    if (!["worklist", "live"].includes(elt.id)) return;
    headers["X-Background"] = "1";
    // The last request wins (hx-sync), so each asks for what the filters say now: a refresh that started before
    // somebody chose another filter must not bring the old list back.
    const form = document.querySelector("form.filters");
    if (elt.id !== "worklist" || !form) return;
    const chosen = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
    const shown = new URLSearchParams(elt.getAttribute("hx-get").split("?")[1]);
    shown.delete("page");
    if (chosen.toString() !== shown.toString()) event.detail.path = `/?${chosen}`;
  });
  // htmx forgets a request on its way when the list that it belongs to is morphed, and so does not abort it (hx-sync):
  // its answer may come after that of a later search, and is then of another list than the filters say.
  const filtersOf = (entries) =>
    [...entries]
      .map(([name, value]) => `${name}=${String(value).trim()}`)
      .filter((each) => !each.endsWith("=") && !each.startsWith("page="))
      .sort()
      .join("&");
  body.addEventListener("htmx:beforeSwap", (event) => {
    const form = document.querySelector("form.filters");
    const { target, xhr } = event.detail;
    if (target?.id !== "worklist" || !form || xhr.status !== 200) return;
    if (filtersOf(new URL(xhr.responseURL).searchParams) === filtersOf(new FormData(form))) return;
    event.detail.shouldSwap = false;
    refresh();
  });
  body.addEventListener("htmx:sendError", () => say("The node does not answer. What you see may be old.", true));
  body.addEventListener("htmx:responseError", (event) => {
    const status = event.detail.xhr.status;
    if (status === 409) {
      say("Not marked: something newer came since you looked. Look at it again.", true);
      refresh();
    } else if (status !== 401) say(`That did not work (${status}). Reload the page and try again.`, true);
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
  // A key that is held or struck twice must not mark the study that comes next, which nobody has seen.
  const SETTLE_MS = 700;
  let shownAt = performance.now();
  let leaving = false;
  addEventListener("pageshow", () => {
    shownAt = performance.now();
    leaving = false;
  });
  const mark = (selector, seen = () => true) => {
    if (leaving || performance.now() - shownAt < SETTLE_MS) return;
    if (!seen()) {
      say("Not marked: the image is still being loaded.", true);
      return;
    }
    // On a study's page the form leads to another page.
    leaving = Boolean(current()?.matches(".one-study") && current().querySelector(selector));
    press(selector);
  };
  const imagesAreShown = () =>
    !current()?.matches(".one-study") || [...current().querySelectorAll("img.grey")].every((image) => image.complete);
  const step = (by) => {
    const all = studies();
    if (!all.length) return;
    const at = all.indexOf(document.activeElement?.closest?.(".study")?.querySelector(".name"));
    const next = all[at < 0 ? 0 : Math.min(all.length - 1, Math.max(0, at + by))];
    next.focus();
    next.closest(".study").scrollIntoView({ block: "nearest" });
  };
  /** What a held key may do over and over. */
  const REPEATED = new Set(["j", "k"]);
  const actions = {
    j: () => step(1),
    k: () => step(-1),
    v: () => press("a.viewer"),
    r: () => mark("button.read", imagesAreShown),
    u: () => mark("button.unread"),
    w: () => location.assign("/"),
    "/": () => document.getElementById("q")?.focus(),
    "?": () => keys.showModal(),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || keys.open) return;
    if (event.target.closest('input:not([type="checkbox"]), select, textarea')) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    if (!event.repeat || REPEATED.has(event.key)) action();
  });
}
