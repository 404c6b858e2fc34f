// What pages do beyond htmx: the dialog, relative times, toasts, the alert slot, copying, and forms that go out once.
"use strict";

(() => {
  const byId = (id) => document.getElementById(id);
  const dialog = byId("dialog");

  // Times. The server's clock counts: a wrong one in this browser must not age the fleet.
  const skew = Date.parse(document.body.dataset.now) - Date.now() || 0;

  // Deadlines are shown in the time zone that this browser is in; the server cannot know it otherwise.
  document.cookie = `tz=${Intl.DateTimeFormat().resolvedOptions().timeZone}; path=/; max-age=31536000; samesite=lax`;

  // The same rules as portal_ui.span and portal_ui.relative.
  const two = (whole, unit, rest, restUnit) => `${whole} ${unit}${rest ? ` ${rest} ${restUnit}` : ""}`;
  const span = (seconds, fine) => {
    const [minutes, hours, days] = [60, 3600, 86400].map((size) => Math.floor(seconds / size));
    if (seconds < 60) return `${seconds} s`;
    if (fine && minutes < 10) return two(minutes, "min", seconds % 60, "s");
    if (hours < 1) return `${minutes} min`;
    if (days < 1) return two(hours, "h", minutes % 60, "min");
    return two(days, "d", days < 10 ? hours % 24 : 0, "h");
  };

  const relative = (seconds, style) => {
    if (style === "for") return span(Math.max(seconds, 0), true);
    if (style === "left") return seconds < 0 ? `${span(-seconds)} left` : `${span(seconds)} over`;
    if (seconds < 0) return `in ${span(-seconds)}`;
    return seconds < 3 ? "just now" : `${span(seconds).split(" ", 2).join(" ")} ago`;
  };

  const tick = () => {
    const now = Date.now() + skew;
    for (const time of document.querySelectorAll("time.when")) {
      const seconds = Math.trunc((now - Date.parse(time.dateTime)) / 1000);
      const text = relative(seconds, time.dataset.style);
      if (time.textContent !== text) time.textContent = text;
      time.classList.toggle("is-over", time.dataset.style === "left" && seconds >= 0);
    }
  };
  setInterval(tick, 1000);

  // The exact time opens to the left where there is no room to the right.
  const EXACT_WIDTH = 180;
  const lean = ({ target }) => {
    const time = target.closest?.("time.when");
    const room = time && document.documentElement.clientWidth - time.getBoundingClientRect().left;
    time?.classList.toggle("is-at-edge", room < EXACT_WIDTH);
  };
  for (const name of ["pointerover", "focusin"]) document.addEventListener(name, lean);

  // Toasts: results of what was asked. Those that report trouble stay until they are closed.
  const TOAST_MS = 6000;
  const iconOf = (name) => {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
    svg.setAttribute("class", "icon");
    svg.setAttribute("aria-hidden", "true");
    use.setAttribute("href", "#i-" + name);
    svg.append(use);
    return svg;
  };

  const note = (text, tone, url) => {
    const box = document.createElement("div");
    const words = document.createElement(url ? "a" : "div");
    const close = document.createElement("button");
    box.className = `note tone-${tone}`;
    box.dataset.dismissable = "";
    words.textContent = text;
    // Only an address of this site: the text of an event never becomes a script.
    if (url) words.href = new URL(url, location.origin).pathname;
    close.type = "button";
    close.className = "btn-icon";
    close.dataset.dismiss = "";
    close.setAttribute("aria-label", "Dismiss");
    close.append(iconOf("x"));
    box.append(iconOf(tone === "ok" ? "circle-check" : tone === "bad" ? "alert-triangle" : "info-circle"), words, close);
    return box;
  };

  const toast = (text, tone = "info", url = "") => {
    const box = note(text, tone, url);
    byId("toasts").append(box);
    if (tone !== "bad") setTimeout(() => box.remove(), TOAST_MS);
  };
  document.body.addEventListener("toast", (event) => {
    toast(event.detail.text || String(event.detail.value), event.detail.tone, event.detail.url);
  });

  // The alert slot: what went wrong between this page and the server. The next good answer clears it.
  const alarm = (text) => {
    const slot = byId("alerts");
    if (slot && slot.textContent.trim() !== text) slot.replaceChildren(note(text, "bad"));
    if (dialog?.open) toast(text, "bad");
  };
  const wentWrong = (event) => {
    const xhr = event.detail.xhr;
    const id = xhr.getResponseHeader("X-Request-ID");
    const words = { 403: "You may not do this.", 404: "This is no longer here.", 429: "That was too often. Wait a minute." };
    const what = words[xhr.status] || `The portal could not do this (error ${xhr.status}).`;
    alarm(`${what} Reload the page to see how things stand.${id ? ` Request ${id}.` : ""}`);
  };
  document.body.addEventListener("htmx:responseError", wentWrong);
  for (const name of ["htmx:sendError", "htmx:timeout"]) {
    document.body.addEventListener(name, () => alarm("The portal does not answer. What you see is the last known state."));
  }
  document.body.addEventListener("htmx:afterOnLoad", (event) => {
    if (event.detail.xhr.status < 400) byId("alerts")?.replaceChildren();
  });

  // The dialog. Whoever opened it gets the focus back, also after a live update has replaced the button.
  let opener = null;
  const shown = () => {
    if (!dialog.open) dialog.showModal();
    const first = dialog.querySelector("[aria-invalid=true]") || dialog.querySelector("textarea, select, [data-close]");
    if (first) first.focus();
  };
  document.body.addEventListener("htmx:beforeRequest", (event) => {
    if (event.detail.target === dialog && !dialog.open) opener = event.detail.elt;
  });
  document.body.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target === dialog) shown();
  });
  dialog?.addEventListener("close", () => {
    dialog.replaceChildren();
    const back = opener && (opener.isConnected ? opener : byId(opener.id));
    if (back) back.focus();
  });

  // Live updates replace whole parts: what a person unfolded stays unfolded, and the focus stays where it was.
  // (htmx sees to it where the element has an id.)
  const FOCUSABLE = "a[href], button, summary, [tabindex]";
  let unfolded = [];
  let picked = [];
  let focused = -1;
  document.body.addEventListener("htmx:beforeSwap", ({ detail }) => {
    unfolded = [...detail.target.querySelectorAll("details[open][id]")].map((details) => details.id);
    picked = [...detail.target.querySelectorAll("input[type=checkbox][id]:checked")].map((box) => box.id);
    focused = [...detail.target.querySelectorAll(FOCUSABLE)].indexOf(document.activeElement);
  });
  document.body.addEventListener("htmx:afterSettle", ({ detail }) => {
    for (const id of unfolded) byId(id)?.setAttribute("open", "");
    for (const id of picked) if (byId(id)) byId(id).checked = true;
    if (focused >= 0 && document.activeElement === document.body) {
      byId(detail.target.id)?.querySelectorAll(FOCUSABLE)[focused]?.focus({ preventScroll: true });
    }
    focused = -1;
    tick();
  });

  // The team is the session's, and another tab may have changed it: say whose page asks.
  document.body.addEventListener("htmx:configRequest", (event) => {
    if (document.body.dataset.team) event.detail.headers["X-Team"] = document.body.dataset.team;
    // What a page asks by itself is no sign that somebody is there: it keeps no session alive.
    if (event.detail.triggeringEvent?.type.startsWith("live-")) event.detail.headers["X-Background"] = "1";
  });

  // Filters: empty fields stay out of the address, so that it can be read and sent to somebody.
  document.body.addEventListener("htmx:configRequest", (event) => {
    if (!event.detail.elt.matches("form.filters")) return;
    for (const [name, value] of [...event.detail.formData.entries()]) {
      if (value === "") event.detail.formData.delete(name);
    }
  });

  // A form goes out once: the second click finds it on its way. Back in the page, it may go again.
  const release = (form) => {
    delete form.dataset.sent;
    for (const button of form.querySelectorAll("button[data-busy]")) {
      button.disabled = false;
      delete button.dataset.busy;
    }
  };
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post") return;
    if (form.dataset.sent) {
      event.preventDefault();
      event.stopImmediatePropagation();
      return;
    }
    form.dataset.sent = "1";
    // After this turn: a disabled button would not send its own name and value.
    setTimeout(() => {
      for (const button of form.querySelectorAll("button:not([type=button]):not(:disabled)")) {
        button.dataset.busy = "1";
        button.disabled = true;
      }
    });
  }, true);
  document.body.addEventListener("htmx:afterRequest", (event) => {
    const moving = event.detail.xhr?.getResponseHeader("HX-Redirect");
    if (event.detail.elt.matches("form") && !moving) release(event.detail.elt);
  });
  addEventListener("pageshow", () => document.querySelectorAll("form[data-sent]").forEach(release));

  // One box ticks all of its page. Without scripts it stays hidden: it would do nothing.
  const boxesOf = (all) => [...document.querySelectorAll(`input[type=checkbox][name="${all.dataset.pickAll}"]`)];
  const showPicks = () => {
    for (const all of document.querySelectorAll("[data-pick-all]")) {
      const ticked = boxesOf(all).filter((box) => box.checked).length;
      all.hidden = false;
      all.checked = ticked > 0 && ticked === boxesOf(all).length;
      all.indeterminate = ticked > 0 && !all.checked;
    }
  };
  document.addEventListener("change", ({ target }) => {
    if (target.matches("[data-pick-all]")) for (const box of boxesOf(target)) box.checked = target.checked;
    showPicks();
  });
  document.body.addEventListener("htmx:afterSettle", showPicks);
  showPicks();

  const copy = async (button) => {
    const text = button.dataset.copy || byId(button.dataset.copyFrom).textContent;
    try {
      await navigator.clipboard.writeText(text.trim());
      toast("Copied.", "ok");
    } catch {
      toast("This browser does not let pages copy. Select the text instead.", "bad");
    }
  };

  document.addEventListener("click", (event) => {
    const { target } = event;
    const button = target.closest("[data-copy], [data-copy-from]");
    if (button) copy(button);
    target.closest("[data-dismiss]")?.closest("[data-dismissable]").remove();
    if (target.closest("[data-close]") && dialog?.open) {
      event.preventDefault();
      dialog.close();
    }
    for (const menu of document.querySelectorAll("details[data-menu][open]")) {
      if (!menu.contains(target)) menu.removeAttribute("open");
    }
  });
  document.addEventListener("keydown", (event) => {
    const menu = event.key === "Escape" && document.querySelector("details[data-menu][open]");
    if (!menu) return;
    menu.removeAttribute("open");
    menu.querySelector("summary").focus();
  });
})();
