// Live events: one stream per browser and team, shared by its tabs. Each topic becomes an event on <body>:
// "engine:eng_1" → "live-engine-eng_1". While there is no stream, "live-poll" comes every 10 s instead,
// and once whenever a stream begins: something may have changed before it did.
"use strict";

(() => {
  const url = document.body.dataset.live;
  if (!url) return;
  // Whoever changes the team in one tab must not be told about it by another tab's stream of the old one.
  const name = `live ${url} ${document.body.dataset.team}`;

  const POLL_MS = 10000;
  const AGAIN_MS = 3000;
  const CONNECT_MS = 2000;
  const SILENCE_MS = 40000; // the server speaks every 15 s
  const HIDDEN_MS = 30000;
  const WORDS = { live: "live", polling: "polling" };

  let state = ""; // of this page, until the first word: neither
  let heardAt = Date.now();
  let source = null; // only in the tab that holds the stream
  let share = () => {};

  const heardOf = new Map(); // event name → when it came
  const announce = (name) => document.body.dispatchEvent(new CustomEvent(name));
  const dispatch = (topic) => {
    const name = "live-" + topic.replaceAll(":", "-");
    heardOf.set(name, performance.now());
    announce(name);
  };

  // A part of the page that was just replaced by an answer to an earlier question: what changed since, it missed.
  const askedAt = new WeakMap(); // request → when
  document.body.addEventListener("htmx:beforeRequest", ({ detail }) => askedAt.set(detail.xhr, performance.now()));
  document.body.addEventListener("htmx:afterSettle", ({ detail }) => {
    const asked = askedAt.get(detail.xhr);
    const fresh = detail.target.id && document.getElementById(detail.target.id);
    const listens = (fresh?.getAttribute("hx-trigger") || "").split(/[\s,]+/);
    const missed = [...heardOf].find(([name, at]) => at >= asked && listens.includes(name));
    askedAt.delete(detail.xhr);
    if (missed) announce(missed[0]);
  });

  const enter = (next, began = false) => {
    if (next === state && !began) return;
    state = document.body.dataset.liveState = next;
    for (const place of document.querySelectorAll("[data-live-state]:not(body)")) {
      place.textContent = WORDS[next];
    }
    if (next === "live") dispatch("poll");
  };

  // What any tab does with a message, whether it came from its stream or from the tab that holds one.
  const receive = (message) => {
    heardAt = Date.now();
    if (message.state) enter(message.state, message.began);
    for (const topic of message.topics || []) dispatch(topic);
  };

  const tell = (message) => {
    receive(message);
    share(message);
  };

  const open = () => {
    heardAt = Date.now();
    const opened = source = new EventSource(url);
    let began = true; // at its first word, for every tab: the stream before may have ended earlier
    opened.addEventListener("up", () => {
      tell({ state: "live", began });
      began = false;
    });
    opened.addEventListener("down", () => tell({ state: "polling" }));
    opened.onmessage = (event) => tell(JSON.parse(event.data));
    opened.onerror = () => {
      tell({ state: "polling" });
      // A browser tries again by itself, but not after an answer that is no stream: signed out, or a server error.
      if (opened.readyState === EventSource.CLOSED) {
        setTimeout(() => { if (source === opened) open(); }, AGAIN_MS);
      }
    };
  };

  const openForAllTabs = () => {
    const channel = new BroadcastChannel(name);
    share = (message) => channel.postMessage(message);
    channel.onmessage = ({ data }) => {
      if (!data.ask) receive(data);
      else if (source && state) share({ state });
    };
    share({ ask: true });
    // Held as long as this tab lives. The next tab in the queue then opens its own stream.
    navigator.locks.request(name, () => new Promise(open));
  };

  if (navigator.locks && window.BroadcastChannel) openForAllTabs();
  else open();

  setTimeout(() => { if (!state) enter("polling"); }, CONNECT_MS);

  setInterval(() => {
    if (Date.now() - heardAt > SILENCE_MS) {
      enter("polling");
      if (source) { source.close(); open(); }
    }
    if (state !== "live") dispatch("poll");
  }, POLL_MS);

  let hiddenAt = 0;
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) hiddenAt = Date.now();
    else if (hiddenAt && Date.now() - hiddenAt > HIDDEN_MS) dispatch("poll");
  });
})();
