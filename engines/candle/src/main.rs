//! candle behind the engine protocol of `llcuda bench` (docs/internals/bench-protocol.md): JSON
//! lines on standard input and output, one model, greedy decoding.
//!
//! SafeTensors folders run as `candle_transformers::models::llama`, GGUF files as
//! `quantized_llama`: the two ways in which programs use candle. Requests of equal prompt length
//! run as one batch, others one after another: candle's Llama knows no ragged batch.

use anyhow::{anyhow, bail, Context, Result};
use candle_core::{DType, Device, Tensor};
use candle_transformers::models::llama::{Cache, Config, Llama, LlamaConfig};
use candle_transformers::models::quantized_llama::ModelWeights;
use serde_json::{json, Value};
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const PROTOCOL_VERSION: i64 = 1;

enum Weights {
    Full { model: Llama, config: Config, dtype: DType },
    Quantized(Box<ModelWeights>),
}

struct Loaded {
    weights: Weights,
    device: Device,
    eos: Vec<u32>,
}

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

/// The weight files of a Hugging Face folder, by its index where there is one.
fn weight_files(folder: &Path) -> Result<Vec<PathBuf>> {
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

fn open_device(name: &str) -> Result<Device> {
    match name.split_once(':') {
        _ if name == "cpu" || name.is_empty() => Ok(Device::Cpu),
        Some(("cuda", index)) => Ok(Device::new_cuda(index.parse()?)?),
        _ if name == "cuda" => Ok(Device::new_cuda(0)?),
        _ => bail!("the device '{name}' is not known to this adapter"),
    }
}

fn load(request: &Value) -> Result<Loaded> {
    if let Some(threads) = request["threads"].as_u64().filter(|count| *count > 0) {
        // Read by rayon when its first task starts, which is later than this.
        std::env::set_var("RAYON_NUM_THREADS", threads.to_string());
    }
    let device = open_device(request["device"].as_str().unwrap_or("cpu"))?;
    let path = PathBuf::from(request["model"].as_str().context("load names no model")?);
    if path.is_file() {
        let mut file = std::fs::File::open(&path)?;
        let content = candle_core::quantized::gguf_file::Content::read(&mut file)
            .map_err(|error| error.with_path(&path))?;
        let eos = content.metadata.get("tokenizer.ggml.eos_token_id");
        let eos = eos.and_then(|value| value.to_u32().ok()).into_iter().collect();
        let model = ModelWeights::from_gguf(content, &mut file, &device)?;
        return Ok(Loaded { weights: Weights::Quantized(Box::new(model)), device, eos });
    }
    let text = std::fs::read(path.join("config.json"))
        .with_context(|| format!("reading config.json of '{}'", path.display()))?;
    let settings: LlamaConfig = serde_json::from_slice(&text)?;
    let config = settings.into_config(false);
    let dtype = match request["options"]["dtype"].as_str().unwrap_or("f32") {
        "f32" => DType::F32,
        "f16" => DType::F16,
        "bf16" => DType::BF16,
        other => bail!("dtype '{other}' is none of f32, f16, bf16"),
    };
    let files = weight_files(&path)?;
    // The files are only read, and a file that changes under the map would change any engine's.
    let weights = unsafe {
        candle_nn::VarBuilder::from_mmaped_safetensors(&files, dtype, &device)?
    };
    let model = Llama::load(weights, &config)?;
    let config_json: Value = serde_json::from_slice(&text)?;
    let eos = match &config_json["eos_token_id"] {
        Value::Array(ids) => ids.iter().filter_map(Value::as_u64).map(|id| id as u32).collect(),
        id => id.as_u64().map(|id| id as u32).into_iter().collect(),
    };
    Ok(Loaded { weights: Weights::Full { model, config, dtype }, device, eos })
}

struct Prompt {
    index: usize,
    ids: Vec<u32>,
    max_tokens: usize,
}

/// Logits of the last position of each row, as the most likely ids.
fn greedy(logits: &Tensor) -> Result<Vec<u32>> {
    let logits = if logits.rank() == 1 { logits.unsqueeze(0)? } else { logits.clone() };
    Ok(logits.argmax(candle_core::D::Minus1)?.to_vec1::<u32>()?)
}

fn run_batch(
    loaded: &mut Loaded,
    lines: &mut Lines,
    id: i64,
    prompts: &[Prompt],
    ignore_eos: bool,
) -> Result<()> {
    let length = prompts[0].ids.len();
    let ids: Vec<u32> = prompts.iter().flat_map(|prompt| prompt.ids.iter().copied()).collect();
    let mut input = Tensor::from_vec(ids, (prompts.len(), length), &loaded.device)?;
    let mut cache = match &loaded.weights {
        Weights::Full { config, dtype, .. } => {
            Some(Cache::new(true, *dtype, config, &loaded.device)?)
        }
        Weights::Quantized(_) => None,
    };
    let mut position = 0;
    let mut produced = vec![0usize; prompts.len()];
    let mut finished = vec![false; prompts.len()];
    while finished.iter().any(|done| !done) {
        let logits = match &mut loaded.weights {
            Weights::Full { model, .. } => {
                model.forward(&input, position, cache.as_mut().context("no cache")?)?
            }
            Weights::Quantized(model) => model.forward(&input, position)?,
        };
        position += input.dim(1)?;
        let tokens = greedy(&logits)?;
        for (row, prompt) in prompts.iter().enumerate() {
            if finished[row] {
                continue;
            }
            let token = tokens[row];
            produced[row] += 1;
            lines.token(id, prompt.index, token)?;
            let ended = !ignore_eos && loaded.eos.contains(&token);
            if ended || produced[row] >= prompt.max_tokens {
                finished[row] = true;
                lines.say(&json!({"event": "done", "id": id, "index": prompt.index,
                    "prompt_tokens": prompt.ids.len(), "completion_tokens": produced[row],
                    "finish": if ended { "stop" } else { "length" }}))?;
            }
        }
        input = Tensor::from_vec(tokens, (prompts.len(), 1), &loaded.device)?;
    }
    Ok(())
}

fn run(loaded: &mut Loaded, lines: &mut Lines, request: &Value) -> Result<()> {
    let id = request["id"].as_i64().unwrap_or(0);
    let ignore_eos = request["ignore_eos"].as_bool().unwrap_or(true);
    lines.hold = Duration::from_micros(request["hold_us"].as_u64().unwrap_or(0));
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
    let single = matches!(loaded.weights, Weights::Quantized(_));
    while !prompts.is_empty() {
        let length = prompts[0].ids.len();
        let (batch, rest): (Vec<_>, Vec<_>) = if single {
            let rest = prompts.split_off(1);
            (prompts, rest)
        } else {
            prompts.into_iter().partition(|prompt| prompt.ids.len() == length)
        };
        run_batch(loaded, lines, id, &batch, ignore_eos)?;
        prompts = rest;
    }
    Ok(())
}

fn answer(loaded: &mut Option<Loaded>, lines: &mut Lines, request: &Value) -> Result<Value> {
    let op = request["op"].as_str().unwrap_or("");
    match op {
        "hello" => {
            if request["version"].as_i64() != Some(PROTOCOL_VERSION) {
                bail!("this adapter speaks version {PROTOCOL_VERSION} of the protocol");
            }
            Ok(json!({"ok": true, "op": op, "version": PROTOCOL_VERSION, "engine": "candle",
                "engine_version": env!("CANDLE_VERSION"), "concurrent": 1,
                "details": {"avx": candle_core::utils::with_avx(),
                    "f16c": candle_core::utils::with_f16c(),
                    "cuda": candle_core::utils::cuda_is_available()}}))
        }
        "load" => {
            let begin = Instant::now();
            *loaded = Some(load(request)?);
            Ok(json!({"ok": true, "op": op, "load_ms": begin.elapsed().as_secs_f64() * 1e3}))
        }
        "run" => {
            run(loaded.as_mut().ok_or_else(|| anyhow!("run before load"))?, lines, request)?;
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
