//! candle behind the engine protocol of `llcuda bench` (docs/internals/bench-protocol.md): JSON
//! lines on standard input and output, one model, greedy decoding.
//!
//! SafeTensors folders run as `candle_transformers::models::llama`, GGUF files as
//! `quantized_llama`: the two ways in which programs use candle. Requests of equal prompt length
//! run as one batch, others one after another: candle's Llama knows no ragged batch.

use anyhow::{bail, Context, Result};
use candle_core::{DType, Device, Tensor};
use candle_transformers::models::llama::{Cache, Config, Llama, LlamaConfig};
use candle_transformers::models::quantized_llama::ModelWeights;
use llcuda_bench_protocol::{self as protocol, Lines, Prompt, Run};
use serde_json::{json, Value};
use std::path::PathBuf;

enum Weights {
    Full { model: Llama, config: Config, dtype: DType },
    Quantized(Box<ModelWeights>),
}

struct Loaded {
    weights: Weights,
    device: Device,
    eos: Vec<u32>,
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
    let config_json = protocol::read_config(&path)?;
    let eos = protocol::end_ids(&config_json);
    let settings: LlamaConfig = serde_json::from_value(config_json)?;
    let config = settings.into_config(false);
    let dtype = match request["options"]["dtype"].as_str().unwrap_or("f32") {
        "f32" => DType::F32,
        "f16" => DType::F16,
        "bf16" => DType::BF16,
        other => bail!("dtype '{other}' is none of f32, f16, bf16"),
    };
    let files = protocol::weight_files(&path)?;
    // The files are only read, and a file that changes under the map would change any engine's.
    let weights = unsafe {
        candle_nn::VarBuilder::from_mmaped_safetensors(&files, dtype, &device)?
    };
    let model = Llama::load(weights, &config)?;
    Ok(Loaded { weights: Weights::Full { model, config, dtype }, device, eos })
}

/// Logits of the last position of each row, as the most likely ids.
fn greedy(logits: &Tensor) -> Result<Vec<u32>> {
    let logits = if logits.rank() == 1 { logits.unsqueeze(0)? } else { logits.clone() };
    Ok(logits.argmax(candle_core::D::Minus1)?.to_vec1::<u32>()?)
}

fn run_batch(
    loaded: &mut Loaded,
    lines: &mut Lines,
    run: &Run,
    prompts: &[Prompt],
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
            lines.token(run.id, prompt.index, token);
            let ended = !run.ignore_eos && loaded.eos.contains(&token);
            if ended || produced[row] >= prompt.max_tokens {
                finished[row] = true;
                lines.done(run.id, prompt, produced[row], if ended { "stop" } else { "length" });
            }
        }
        input = Tensor::from_vec(tokens, (prompts.len(), 1), &loaded.device)?;
    }
    Ok(())
}

struct Candle {
    loaded: Option<Loaded>,
}

impl protocol::Engine for Candle {
    fn hello(&self, request: &Value) -> Result<Value> {
        protocol::hello(request, "candle", env!("CANDLE_VERSION"), 1,
            json!({"avx": candle_core::utils::with_avx(), "f16c": candle_core::utils::with_f16c(),
                "cuda": candle_core::utils::cuda_is_available()}))
    }

    fn load(&mut self, request: &Value) -> Result<Value> {
        self.loaded = Some(load(request)?);
        Ok(json!({}))
    }

    fn run(&mut self, lines: &mut Lines, run: &Run, mut prompts: Vec<Prompt>) -> Result<()> {
        let loaded = self.loaded.as_mut().context("run before load")?;
        let single = matches!(loaded.weights, Weights::Quantized(_));
        while !prompts.is_empty() {
            let batch = protocol::take_batch(&mut prompts, single);
            run_batch(loaded, lines, run, &batch)?;
        }
        Ok(())
    }
}

fn main() -> Result<()> {
    protocol::serve(&mut Candle { loaded: None })
}
