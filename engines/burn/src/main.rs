//! burn behind the engine protocol of `llcuda bench` (docs/internals/bench-protocol.md): JSON lines
//! on standard input and output, one Llama in SafeTensors, greedy decoding.
//!
//! burn brings tensors and layers, no Llama: `model.rs` is the one that a program on burn would
//! write with burn's own attention, embedding and linear functions. Requests of equal prompt length
//! run as one batch, others one after another.

mod model;

use anyhow::{anyhow, bail, Context, Result};
use burn::tensor::Device;
use serde_json::{json, Value};
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const PROTOCOL_VERSION: i64 = 1;

/// Standard output. Lines of tokens that say when they were known may wait a little.
struct Lines {
    waiting: Vec<u8>,
    hold: Duration,
    written: Instant,
}

impl Lines {
    fn flush(&mut self) -> Result<()> {
        let mut out = std::io::stdout().lock();
        out.write_all(&self.waiting)?;
        out.flush()?;
        self.waiting.clear();
        self.written = Instant::now();
        Ok(())
    }

    fn say(&mut self, message: &Value) -> Result<()> {
        serde_json::to_writer(&mut self.waiting, message)?;
        self.waiting.push(b'\n');
        self.flush()
    }

    fn token(&mut self, id: i64, index: usize, token: u32) -> Result<()> {
        let at_ns = monotonic_ns();
        writeln!(
            self.waiting,
            r#"{{"event":"token","id":{id},"index":{index},"token":{token},"at_ns":{at_ns}}}"#
        )?;
        if self.written.elapsed() >= self.hold {
            self.flush()?;
        }
        Ok(())
    }
}

/// The system's clock that the harness reads too; `Instant` keeps its number to itself.
fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // A clock that exists and a place to write to: this cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn open_device(name: &str) -> Result<Device> {
    match name.split_once(':').unwrap_or((name, "0")) {
        ("cpu" | "", _) => Ok(Device::flex()),
        #[cfg(feature = "cuda")]
        ("cuda", index) => Ok(Device::cuda(index.parse::<usize>()?)),
        _ => bail!("the device '{name}' is not in this build of the adapter"),
    }
}

fn load(request: &Value) -> Result<model::Llama> {
    if let Some(threads) = request["threads"].as_u64().filter(|count| *count > 0) {
        // Read by rayon when its first task starts, which is later than this.
        std::env::set_var("RAYON_NUM_THREADS", threads.to_string());
    }
    let device = open_device(request["device"].as_str().unwrap_or("cpu"))?;
    let path = PathBuf::from(request["model"].as_str().context("load names no model")?);
    if path.is_file() {
        bail!("this adapter reads Hugging Face folders, not '{}'", path.display());
    }
    model::Llama::load(&path, device)
}

struct Prompt {
    index: usize,
    ids: Vec<u32>,
    max_tokens: usize,
}

fn run_batch(
    llama: &model::Llama,
    lines: &mut Lines,
    id: i64,
    prompts: &[Prompt],
    ignore_eos: bool,
) -> Result<()> {
    let mut cache = llama.cache();
    let mut tokens: Vec<u32> = prompts.iter().flat_map(|prompt| prompt.ids.clone()).collect();
    let mut produced = vec![0usize; prompts.len()];
    let mut finished = vec![false; prompts.len()];
    while finished.iter().any(|done| !done) {
        tokens = llama.step(&tokens, prompts.len(), &mut cache)?;
        for (row, prompt) in prompts.iter().enumerate() {
            if finished[row] {
                continue;
            }
            produced[row] += 1;
            lines.token(id, prompt.index, tokens[row])?;
            let ended = !ignore_eos && llama.eos.contains(&tokens[row]);
            finished[row] = ended || produced[row] >= prompt.max_tokens;
            if finished[row] {
                lines.say(&json!({"event": "done", "id": id, "index": prompt.index,
                    "prompt_tokens": prompt.ids.len(), "completion_tokens": produced[row],
                    "finish": if ended { "stop" } else { "length" }}))?;
            }
        }
    }
    Ok(())
}

fn read_prompts(request: &Value) -> Result<Vec<Prompt>> {
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

fn run(llama: &model::Llama, lines: &mut Lines, request: &Value) -> Result<()> {
    let id = request["id"].as_i64().unwrap_or(0);
    let ignore_eos = request["ignore_eos"].as_bool().unwrap_or(true);
    lines.hold = Duration::from_micros(request["hold_us"].as_u64().unwrap_or(0));
    let mut prompts = read_prompts(request)?;
    while !prompts.is_empty() {
        let length = prompts[0].ids.len();
        let (batch, rest): (Vec<_>, Vec<_>) =
            prompts.into_iter().partition(|prompt| prompt.ids.len() == length);
        run_batch(llama, lines, id, &batch, ignore_eos)?;
        prompts = rest;
    }
    Ok(())
}

fn answer(loaded: &mut Option<model::Llama>, lines: &mut Lines, request: &Value) -> Result<Value> {
    let op = request["op"].as_str().unwrap_or("");
    match op {
        "hello" => {
            if request["version"].as_i64() != Some(PROTOCOL_VERSION) {
                bail!("this adapter speaks version {PROTOCOL_VERSION} of the protocol");
            }
            Ok(json!({"ok": true, "op": op, "version": PROTOCOL_VERSION, "engine": "burn",
                "engine_version": env!("BURN_VERSION"), "concurrent": 1}))
        }
        "load" => {
            let begin = Instant::now();
            *loaded = Some(load(request)?);
            Ok(json!({"ok": true, "op": op, "load_ms": begin.elapsed().as_secs_f64() * 1e3,
                "details": {"dtype": "f32", "backend": if cfg!(feature = "cuda") { "cuda or flex" }
                    else { "flex" }}}))
        }
        "run" => {
            run(loaded.as_ref().ok_or_else(|| anyhow!("run before load"))?, lines, request)?;
            Ok(json!({"ok": true, "op": op, "id": request["id"]}))
        }
        "metrics" => Ok(json!({"ok": true, "op": op, "metrics": {}})),
        "stop" => Ok(json!({"ok": true, "op": op})),
        _ => bail!("there is no operation '{op}'"),
    }
}

fn main() -> Result<()> {
    let mut loaded = None;
    let mut lines = Lines { waiting: Vec::new(), hold: Duration::ZERO, written: Instant::now() };
    for line in std::io::stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line?).context("a line that is no JSON")?;
        let op = request["op"].clone();
        let reply = answer(&mut loaded, &mut lines, &request).unwrap_or_else(|error| {
            json!({"ok": false, "op": op, "id": request["id"], "error": format!("{error:#}")})
        });
        lines.say(&reply)?;
        if op == "stop" {
            break;
        }
    }
    Ok(())
}
