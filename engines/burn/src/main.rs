//! burn behind the engine protocol of `llcuda bench` (docs/internals/bench-protocol.md): JSON lines
//! on standard input and output, one Llama in SafeTensors, greedy decoding.
//!
//! burn brings tensors and layers, no Llama: `model.rs` is the one that a program on burn would
//! write with burn's own attention, embedding and linear functions. Requests of equal prompt length
//! run as one batch, others one after another.

mod model;

use anyhow::{bail, Context, Result};
use burn::tensor::Device;
use llcuda_bench_protocol::{self as protocol, Lines, Prompt, Run};
use serde_json::{json, Value};
use std::path::PathBuf;

fn open_device(name: &str) -> Result<Device> {
    match name.split_once(':').unwrap_or((name, "0")) {
        ("cpu" | "", _) => Ok(Device::flex()),
        #[cfg(feature = "cuda")]
        ("cuda", index) => Ok(Device::cuda(index.parse::<usize>()?)),
        _ => bail!("the device '{name}' is not in this build of the adapter"),
    }
}

fn load(request: &Value) -> Result<model::Llama> {
    let device = open_device(request["device"].as_str().unwrap_or("cpu"))?;
    let path = PathBuf::from(request["model"].as_str().context("load names no model")?);
    if path.is_file() {
        bail!("this adapter reads Hugging Face folders, not '{}'", path.display());
    }
    model::Llama::load(&path, device)
}

fn run_batch(
    llama: &model::Llama,
    lines: &mut Lines,
    run: &Run,
    prompts: &[Prompt],
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
            lines.token(run.id, prompt.index, tokens[row]);
            let ended = !run.ignore_eos && llama.eos.contains(&tokens[row]);
            finished[row] = ended || produced[row] >= prompt.max_tokens;
            if finished[row] {
                lines.done(run.id, prompt, produced[row], if ended { "stop" } else { "length" });
            }
        }
    }
    Ok(())
}

struct Burn {
    loaded: Option<model::Llama>,
}

impl protocol::Engine for Burn {
    fn hello(&self, request: &Value) -> Result<Value> {
        protocol::hello(request, "burn", env!("BURN_VERSION"), 1, json!({}))
    }

    fn load(&mut self, request: &Value) -> Result<Value> {
        self.loaded = Some(load(request)?);
        Ok(json!({"dtype": "f32",
            "backend": if cfg!(feature = "cuda") { "cuda or flex" } else { "flex" }}))
    }

    fn run(&mut self, lines: &mut Lines, run: &Run, mut prompts: Vec<Prompt>) -> Result<()> {
        let llama = self.loaded.as_ref().context("run before load")?;
        while !prompts.is_empty() {
            let batch = protocol::take_batch(&mut prompts, false);
            run_batch(llama, lines, run, &batch)?;
        }
        Ok(())
    }
}

fn main() -> Result<()> {
    protocol::serve(&mut Burn { loaded: None })
}
