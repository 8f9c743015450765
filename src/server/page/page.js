/* The page: conversations, streaming, settings and live figures. Text from the model only ever
 * becomes text nodes, so that nothing it says can become markup. Everything that is kept stays in
 * this browser. */
"use strict";

const $ = (id) => document.getElementById(id);
const SETTINGS = ["system", "temperature", "top_p", "top_k", "min_p", "seed", "max_tokens"];
let conversations = load("llcuda.conversations", []);
let current = null;
let running = null; /* the AbortController of the answer being made */

function load(name, fallback) {
  try {
    return JSON.parse(localStorage.getItem(name)) ?? fallback;
  } catch {
    return fallback;
  }
}

function save() {
  try {
    localStorage.setItem("llcuda.conversations", JSON.stringify(conversations));
  } catch {
    $("status").textContent = "The browser keeps no more: delete some conversations.";
  }
}

function element(name, text, ...children) {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

/* ---------------------------------------------------------------- Markdown, as nodes */

function inline(text, into) {
  const pattern = /`([^`\n]+)`|\*\*([^*\n]+)\*\*|\*([^*\s][^*\n]*)\*|\[([^\]\n]+)\]\((https?:\/\/[^\s)]+)\)/g;
  let from = 0;
  for (const found of text.matchAll(pattern)) {
    into.append(text.slice(from, found.index));
    if (found[1]) into.append(element("code", found[1]));
    else if (found[2]) into.append(element("strong", found[2]));
    else if (found[3]) into.append(element("em", found[3]));
    else {
      const link = element("a", found[4]);
      link.href = found[5];
      link.rel = "noopener noreferrer";
      link.target = "_blank";
      into.append(link);
    }
    from = found.index + found[0].length;
  }
  into.append(text.slice(from));
  return into;
}

function block(lines, into) {
  let list = null;
  let paragraph = [];
  const flush = () => {
    if (paragraph.length) into.append(inline(paragraph.join("\n"), element("p")));
    paragraph = [];
  };
  for (const line of lines) {
    const heading = /^(#{1,6}) +(.*)$/.exec(line);
    const item = /^\s*(?:[-*+]|\d+[.)]) +(.*)$/.exec(line);
    if (heading || item || !line.trim()) flush();
    if (item) {
      const kind = /^\s*\d/.test(line) ? "ol" : "ul";
      if (!list || list.localName !== kind) into.append(list = element(kind));
      list.append(inline(item[1], element("li")));
      continue;
    }
    list = null;
    if (heading) into.append(inline(heading[2], element("h" + Math.min(6, heading[1].length + 2))));
    else if (line.trim()) paragraph.push(line);
  }
  flush();
}

function markdown(text, into) {
  into.replaceChildren();
  text.split(/^```[^\n]*$/m).forEach((part, index) => {
    if (index % 2) into.append(element("pre", "", element("code", part.replace(/^\n/, ""))));
    else block(part.split("\n"), into);
  });
}

/* ---------------------------------------------------------------- what is shown */

function showMessage(message) {
  const body = element("div");
  const article = element("article", "", element("h2", message.role === "user" ? "You" : "Model"));
  if (message.reasoning) article.append(reasoningOf(message.reasoning));
  article.append(body);
  article.className = message.role;
  if (message.role === "user") {
    for (const line of message.content.split("\n")) body.append(line, element("br"));
  } else {
    markdown(message.content, body);
  }
  $("messages").append(article);
  return body;
}

/* What a model thought before it answered, folded away. */
function reasoningOf(text) {
  const thought = element("div");
  thought.textContent = text;
  return element("details", "", element("summary", "Reasoning"), thought);
}

function showConversation() {
  $("messages").replaceChildren();
  for (const message of current.messages) showMessage(message);
  $("list").replaceChildren(...conversations.map((conversation) => {
    const button = element("button", conversation.title);
    button.type = "button";
    button.setAttribute("aria-current", conversation === current);
    button.onclick = () => { if (!running) { current = conversation; showConversation(); } };
    return element("li", "", button);
  }));
  showState();
}

function showState() {
  $("send").disabled = Boolean(running);
  $("stop").disabled = !running;
  $("delete").disabled = Boolean(running);
  $("new").disabled = Boolean(running);
  $("again").disabled = Boolean(running) || !current.messages.length;
}

function begin() {
  current = { title: "New conversation", messages: [] };
  conversations.unshift(current);
  showConversation();
  $("input").focus();
}

/* ---------------------------------------------------------------- answers */

function headers() {
  const key = $("key").value.trim();
  return key ? { Authorization: "Bearer " + key } : {};
}

function body() {
  const made = { messages: current.messages.map(({ role, content }) => ({ role, content })), stream: true,
    stream_options: { include_usage: true } };
  if ($("choice").value) made.model = $("choice").value;
  for (const name of SETTINGS) {
    const value = $(name).value.trim();
    if (value && name === "system") made.messages.unshift({ role: "system", content: value });
    else if (value) made[name] = Number(value);
  }
  return JSON.stringify(made);
}

/* The events of a stream, parsed, until [DONE]. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("the connection ended before the answer did");
    text += value;
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      const event = text.slice(0, end);
      if (event === "data: [DONE]") return;
      if (event.startsWith("data: ")) yield JSON.parse(event.slice(6));
    }
  }
}

async function answer() {
  const message = { role: "assistant", content: "" };
  const started = performance.now();
  let usage = null;
  let shown = null;
  let drawn = true;
  running = new AbortController();
  showState();
  $("status").textContent = "Waiting for the first token …";
  const draw = () => {
    drawn = true;
    const thought = shown.previousElementSibling;
    if (message.reasoning && thought?.localName === "details") thought.lastChild.textContent = message.reasoning;
    else if (message.reasoning) shown.before(reasoningOf(message.reasoning));
    markdown(message.content, shown);
    $("messages").scrollTop = $("messages").scrollHeight;
  };
  try {
    const response = await fetch("v1/chat/completions", { method: "POST", body: body(),
      headers: { "Content-Type": "application/json", ...headers() }, signal: running.signal });
    if (!response.ok) throw new Error((await response.json()).error.message);
    shown = showMessage(message);
    for await (const event of events(response)) {
      if (event.error) throw new Error(event.error.message);
      usage = event.usage ?? usage;
      const delta = event.choices[0]?.delta ?? {};
      message.content += delta.content ?? "";
      if (delta.reasoning_content) message.reasoning = (message.reasoning ?? "") + delta.reasoning_content;
      if (drawn) { drawn = false; requestAnimationFrame(draw); }
    }
    const seconds = (performance.now() - started) / 1000;
    $("status").textContent = usage
      ? `${usage.prompt_tokens} + ${usage.completion_tokens} tokens in ${seconds.toFixed(1)} s` : "";
  } catch (error) {
    $("status").textContent = error.name === "AbortError" ? "Stopped." : "Failed: " + error.message;
  }
  if (shown) {
    draw();
    current.messages.push(message);
  }
  running = null;
  save();
  showState();
}

function send(event) {
  event.preventDefault();
  const text = $("input").value;
  if (running || !text.trim()) return;
  if (!current.messages.length) current.title = text.trim().slice(0, 40);
  current.messages.push({ role: "user", content: text });
  $("input").value = "";
  save();
  showConversation();
  $("messages").scrollTop = $("messages").scrollHeight;
  answer();
}

function again() {
  if (running) return;
  while (current.messages.at(-1)?.role === "assistant") current.messages.pop();
  showConversation();
  if (current.messages.length) answer();
}

/* ---------------------------------------------------------------- live figures */

let before = null;

/* Samples by name; those of several models are added up. */
function readMetrics(text) {
  const values = {};
  for (const line of text.split("\n")) {
    const found = /^([a-z_]+)(?:\{[^}]*\})? (\S+)$/.exec(line);
    if (found) values[found[1]] = (values[found[1]] ?? 0) + Number(found[2]);
  }
  return values;
}

const mib = (bytes) => (bytes / 1048576).toFixed(0) + " MiB";

/* Rows about each accelerator, where there are any, of what its monitor knows. */
function deviceRows(text) {
  const devices = {};
  for (const [, what, device, value] of text.matchAll(/^llcuda_device_([a-z_]+)\{device="(\d+)",.*\} (\S+)$/gm))
    (devices[device] ??= {})[what] = Number(value);
  const rows = {};
  for (const [device, now] of Object.entries(devices)) {
    const row = (name, value, write) => {
      if (value !== undefined) rows["GPU " + device + " " + name] = write(value);
    };
    row("in use", now.utilization_ratio, (value) => (100 * value).toFixed(0) + " %");
    row("temperature", now.temperature_celsius, (value) => value.toFixed(0) + " °C");
    row("power", now.power_watts, (value) => value.toFixed(0) + " W");
    row("memory", now.memory_used_bytes, (value) => mib(value) + " of " + mib(now.memory_bytes));
  }
  return rows;
}

async function showFigures() {
  if ($("live-view").hidden) return;
  try {
    const response = await fetch("metrics", { headers: headers() });
    if (!response.ok) throw new Error((await response.json()).error.message);
    const text = await response.text();
    const now = { time: performance.now(), ...readMetrics(text) };
    const rate = (name) => before
      ? ((now[name] - before[name]) * 1000 / (now.time - before.time)).toFixed(1) : "…";
    const steps = before ? now.llcuda_steps_total - before.llcuda_steps_total : 0;
    const tokens = before ? now.llcuda_generation_tokens_total + now.llcuda_prompt_tokens_total
      - before.llcuda_generation_tokens_total - before.llcuda_prompt_tokens_total : 0;
    const rows = {
      "Tokens a second": rate("llcuda_generation_tokens_total"),
      "Prompt tokens a second": rate("llcuda_prompt_tokens_total"),
      "Steps a second": rate("llcuda_steps_total"),
      "Rows a step": steps ? (tokens / steps).toFixed(1) : "0",
      "Running": now.llcuda_requests_running,
      "Waiting": now.llcuda_requests_waiting,
      "Cache in use": (100 * now.llcuda_kv_cache_blocks_used / (now.llcuda_kv_cache_blocks || 1)).toFixed(1) + " %",
      "Cached blocks": now.llcuda_kv_cache_blocks_cached,
      "Tokens found in the cache": now.llcuda_prefix_cache_hits_total,
      "Memory of the models": mib(now.llcuda_memory_bytes),
      "Memory of the process": mib(now.process_resident_memory_bytes),
      ...deviceRows(text),
      "Connections": now.llcuda_http_connections,
      "Preemptions": now.llcuda_preemptions_total,
    };
    $("figures").replaceChildren(...Object.entries(rows).map(([name, value]) =>
      element("div", "", element("dt", name), element("dd", String(value)))));
    $("live-status").textContent = "";
    before = now;
  } catch (error) {
    $("live-status").textContent = "No figures: " + error.message;
  }
}

function show(live) {
  $("chat-view").hidden = live;
  $("live-view").hidden = !live;
  $("show-chat").setAttribute("aria-pressed", !live);
  $("show-live").setAttribute("aria-pressed", live);
  before = null;
  showFigures();
}

/* ---------------------------------------------------------------- beginning */

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  $("theme").textContent = theme === "dark" ? "Light" : "Dark";
}

async function showModel() {
  try {
    const models = await (await fetch("v1/models", { headers: headers() })).json();
    $("model").textContent = models.error ? "an API key is needed: see Settings"
      : models.data.map((model) => model.id).join(", ");
    $("choice").replaceChildren(...(models.data ?? []).map((model) => element("option", model.id)));
  } catch {
    $("model").textContent = "the server does not answer";
  }
}

setTheme(load("llcuda.theme", matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
for (const name of SETTINGS) {
  $(name).value = load("llcuda.settings", {})[name] ?? "";
  $(name).onchange = () => localStorage.setItem("llcuda.settings", JSON.stringify(
    Object.fromEntries(SETTINGS.map((setting) => [setting, $(setting).value]))));
}
/* The key lives as long as the tab: it is a secret. */
$("key").value = sessionStorage.getItem("llcuda.key") ?? "";
$("key").onchange = () => { sessionStorage.setItem("llcuda.key", $("key").value); showModel(); };
$("form").onsubmit = send;
$("input").onkeydown = (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) send(event);
};
$("stop").onclick = () => running?.abort();
$("again").onclick = again;
$("new").onclick = begin;
$("delete").onclick = () => {
  conversations = conversations.filter((conversation) => conversation !== current);
  current = conversations[0];
  save();
  if (current) showConversation();
  else begin();
};
$("show-chat").onclick = () => show(false);
$("show-live").onclick = () => show(true);
$("theme").onclick = () => {
  setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  localStorage.setItem("llcuda.theme", JSON.stringify(document.documentElement.dataset.theme));
};
addEventListener("keydown", (event) => { if (event.key === "Escape") running?.abort(); });
current = conversations[0];
if (current) showConversation();
else begin();
showModel();
setInterval(showFigures, 1000);
