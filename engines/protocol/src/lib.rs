//! The adapter's half of the engine protocol of `llcuda bench` (docs/internals/bench-protocol.md),
//! for adapters in Rust: lines out, with tokens that say when they were known; requests in; and the
//! loop of an adapter that does one thing at a time.

use anyhow::{bail, Context, Result};
use serde_json::{json, Value};
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::{Duration, Instant};

pub const PROTOCOL_VERSION: i64 = 1;

/// Standard output. Lines of tokens may wait as long as the run allows.
pub struct Lines {
    waiting: Vec<u8>,
    pub hold: Duration,
    written: Instant,
}

impl Default for Lines {
    fn default() -> Self {
        Lines { waiting: Vec::new(), hold: Duration::ZERO, written: Instant::now() }
    }
}

impl Lines {
    fn flush(&mut self) {
        let mut out = std::io::stdout().lock();
        // A harness that does not listen any more has ended this program already.
        let _ = out.write_all(&self.waiting).and_then(|()| out.flush());
        self.waiting.clear();
        self.written = Instant::now();
    }

    /// Writes a line, and those that wait before it.
    pub fn say(&mut self, message: &Value) {
        self.waiting.extend_from_slice(message.to_string().as_bytes());
        self.waiting.push(b'\n');
        self.flush();
    }

    /// A token that is known now.
    pub fn token(&mut self, id: i64, index: usize, token: u32) {
        let at_ns = monotonic_ns();
        let line = format!(
            r#"{{"event":"token","id":{id},"index":{index},"token":{token},"at_ns":{at_ns}}}"#
        );
        self.waiting.extend_from_slice(line.as_bytes());
        self.waiting.push(b'\n');
        if self.written.elapsed() >= self.hold {
            self.flush();
        }
    }

    /// The end of one request of a run.
    pub fn done(&mut self, id: i64, prompt: &Prompt, completion_tokens: usize, finish: &str) {
        self.say(&json!({"event": "done", "id": id, "index": prompt.index,
            "prompt_tokens": prompt.ids.len(), "completion_tokens": completion_tokens,
            "finish": finish}));
    }
}

/// The system's clock that the harness reads too; `Instant` keeps its number to itself.
fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // A clock that exists and a place to write to: this cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// One request of a run.
pub struct Prompt {
    pub index: usize,
    pub ids: Vec<u32>,
    pub max_tokens: usize,
}

pub fn read_prompts(request: &Value) -> Result<Vec<Prompt>> {
    let list = request["requests"].as_array().context("run has no requests")?;
    let mut prompts = Vec::new();
    for (index, item) in list.iter().enumerate() {
        let ids = item["prompt_ids"].as_array().context("a request has no prompt_ids")?;
        let ids: Vec<u32> = ids.iter().filter_map(Value::as_u64).map(|id| id as u32).collect();
        let max_tokens = item["max_tokens"].as_u64().unwrap_or(16).max(1) as usize;
        if ids.is_empty() {
            bail!("request {index} has an empty prompt");
        }
        prompts.push(Prompt { index, ids, max_tokens });
    }
    Ok(prompts)
}

/// What a run says about itself beside its prompts.
pub struct Run {
    pub id: i64,
    pub ignore_eos: bool,
    pub hold: Duration,
}

pub fn read_run(request: &Value) -> Run {
    Run {
        id: request["id"].as_i64().unwrap_or(0),
        ignore_eos: request["ignore_eos"].as_bool().unwrap_or(true),
        hold: Duration::from_micros(request["hold_us"].as_u64().unwrap_or(0)),
    }
}

/// Takes the first requests that can run as one batch: of equal prompt length, or a single one.
pub fn take_batch(prompts: &mut Vec<Prompt>, single: bool) -> Vec<Prompt> {
    if single {
        let rest = prompts.split_off(1);
        return std::mem::replace(prompts, rest);
    }
    let length = prompts[0].ids.len();
    let (batch, rest) = prompts.drain(..).partition(|prompt: &Prompt| prompt.ids.len() == length);
    *prompts = rest;
    batch
}

/// The count of threads that a load asks for, given to rayon: it reads it when its first task
/// starts, which must be later than this.
pub fn limit_threads(load: &Value) {
    if let Some(threads) = load["threads"].as_u64().filter(|count| *count > 0) {
        std::env::set_var("RAYON_NUM_THREADS", threads.to_string());
    }
}

/// The ids that end an answer, as the config.json of a Hugging Face folder has them.
pub fn end_ids(config: &Value) -> Vec<u32> {
    match &config["eos_token_id"] {
        Value::Array(ids) => ids.iter().filter_map(Value::as_u64).map(|id| id as u32).collect(),
        id => id.as_u64().map(|id| id as u32).into_iter().collect(),
    }
}

pub fn read_config(folder: &Path) -> Result<Value> {
    let text = std::fs::read(folder.join("config.json"))
        .with_context(|| format!("reading config.json of '{}'", folder.display()))?;
    Ok(serde_json::from_slice(&text)?)
}

/// The weight files of a Hugging Face folder, by its index where there is one.
pub fn weight_files(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let index = folder.join("model.safetensors.index.json");
    if !index.is_file() {
        return Ok(vec![folder.join("model.safetensors")]);
    }
    let index: Value = serde_json::from_slice(&std::fs::read(index)?)?;
    let map = index["weight_map"].as_object().context("the index has no weight_map")?;
    let mut names: Vec<&str> = map.values().filter_map(Value::as_str).collect();
    names.sort_unstable();
    names.dedup();
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

/// The greeting; the harness and the adapter must speak the same version.
pub fn hello(request: &Value, engine: &str, version: &str, concurrent: u32, details: Value)
    -> Result<Value> {
    if request["version"].as_i64() != Some(PROTOCOL_VERSION) {
        bail!("this adapter speaks version {PROTOCOL_VERSION} of the protocol");
    }
    Ok(json!({"ok": true, "op": "hello", "version": PROTOCOL_VERSION, "engine": engine,
        "engine_version": version, "concurrent": concurrent, "details": details}))
}

pub fn loaded(begin: Instant, details: Value) -> Value {
    json!({"ok": true, "op": "load", "load_ms": begin.elapsed().as_secs_f64() * 1e3,
        "details": details})
}

/// Answers the operations that need no model; None for the others.
pub fn simple_answer(op: &str) -> Option<Value> {
    match op {
        "metrics" => Some(json!({"ok": true, "op": op, "metrics": {}})),
        "stop" => Some(json!({"ok": true, "op": op})),
        _ => None,
    }
}

/// A line of standard input as a request.
pub fn read_request(line: &str) -> Result<Value> {
    serde_json::from_str(line).context("a line that is no JSON")
}

/// What an operation that failed is answered with.
pub fn failure(request: &Value, error: &anyhow::Error) -> Value {
    json!({"ok": false, "op": request["op"], "id": request["id"], "error": format!("{error:#}")})
}

/// An engine that does one thing at a time.
pub trait Engine {
    fn hello(&self, request: &Value) -> Result<Value>;
    /// Loads a model, instead of the one before; what to say about it.
    fn load(&mut self, request: &Value) -> Result<Value>;
    fn run(&mut self, lines: &mut Lines, run: &Run, prompts: Vec<Prompt>) -> Result<()>;
}

fn answer(engine: &mut dyn Engine, lines: &mut Lines, request: &Value) -> Result<Value> {
    match request["op"].as_str().unwrap_or("") {
        "hello" => engine.hello(request),
        "load" => {
            let begin = Instant::now();
            limit_threads(request);
            let details = engine.load(request)?;
            Ok(loaded(begin, details))
        }
        "run" => {
            let run = read_run(request);
            lines.hold = run.hold;
            engine.run(lines, &run, read_prompts(request)?)?;
            Ok(json!({"ok": true, "op": "run", "id": request["id"]}))
        }
        op => simple_answer(op).with_context(|| format!("there is no operation '{op}'")),
    }
}

/// Serves standard input until it ends or says stop.
pub fn serve(engine: &mut dyn Engine) -> Result<()> {
    let mut lines = Lines::default();
    for line in std::io::stdin().lock().lines() {
        let request = read_request(&line?)?;
        let reply = answer(engine, &mut lines, &request)
            .unwrap_or_else(|error| failure(&request, &error));
        lines.say(&reply);
        if request["op"] == "stop" {
            break;
        }
    }
    Ok(())
}
