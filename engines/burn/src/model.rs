//! Llama on burn's tensors: weights from SafeTensors as f32, a cache that grows by concatenation,
//! grouped heads repeated. Names and the rotation by halves are those of Hugging Face's files.

use anyhow::{bail, Context, Result};
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{activation::silu, module, Device, Int, Tensor, TensorData};
use llcuda_bench_protocol as protocol;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::path::Path;

struct Layer {
    norm_attention: Tensor<1>,
    norm_mlp: Tensor<1>,
    query: Tensor<2>,
    key: Tensor<2>,
    value: Tensor<2>,
    output: Tensor<2>,
    gate: Tensor<2>,
    up: Tensor<2>,
    down: Tensor<2>,
}

pub struct Llama {
    pub eos: Vec<u32>,
    device: Device,
    embedding: Tensor<2>,
    head: Tensor<2>,
    norm: Tensor<1>,
    layers: Vec<Layer>,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    epsilon: f64,
    frequencies: Vec<f32>,
}

/// Keys and values of each layer, `[rows, kv heads, positions, head_dim]`.
pub struct Cache {
    layers: Vec<Option<(Tensor<4>, Tensor<4>)>>,
    length: usize,
}

struct Weights<'a> {
    files: Vec<SafeTensors<'a>>,
    device: &'a Device,
}

impl Weights<'_> {
    /// A tensor's values as f32, and its shape.
    fn values(&self, name: &str) -> Result<(Vec<f32>, Vec<usize>)> {
        let found = self.files.iter().find_map(|file| file.tensor(name).ok());
        let view = found.with_context(|| format!("there is no tensor '{name}'"))?;
        let data = view.data();
        let pairs = || data.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
        let values = match view.dtype() {
            Dtype::F32 => {
                data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
            }
            Dtype::F16 => pairs().map(|bits| half::f16::from_bits(bits).to_f32()).collect(),
            Dtype::BF16 => pairs().map(|bits| half::bf16::from_bits(bits).to_f32()).collect(),
            other => bail!("tensor '{name}' is of type {other:?}"),
        };
        Ok((values, view.shape().to_vec()))
    }

    fn vector(&self, name: &str) -> Result<Tensor<1>> {
        let (values, shape) = self.values(name)?;
        Ok(Tensor::from_data(TensorData::new(values, shape), self.device))
    }

    fn table(&self, name: &str) -> Result<Tensor<2>> {
        let (values, shape) = self.values(name)?;
        Ok(Tensor::from_data(TensorData::new(values, shape), self.device))
    }

    /// A linear layer's weights, turned to burn's `[in, out]`.
    fn linear(&self, name: &str) -> Result<Tensor<2>> {
        let (values, shape) = self.values(name)?;
        let (rows, columns) = (shape[0], shape[1]);
        let mut turned = vec![0f32; values.len()];
        for row in 0..rows {
            for column in 0..columns {
                turned[column * rows + row] = values[row * columns + column];
            }
        }
        Ok(Tensor::from_data(TensorData::new(turned, [columns, rows]), self.device))
    }
}

/// Turning speeds of the rotary embedding, with Llama 3's scaling where the configuration has it.
fn frequencies(config: &Value, head_dim: usize) -> Result<Vec<f32>> {
    let theta = config["rope_theta"].as_f64().unwrap_or(10000.0);
    let scaling = &config["rope_scaling"];
    let mut speeds: Vec<f64> =
        (0..head_dim / 2).map(|i| theta.powf(-2.0 * i as f64 / head_dim as f64)).collect();
    if scaling.is_null() {
        return Ok(speeds.into_iter().map(|speed| speed as f32).collect());
    }
    if scaling["rope_type"].as_str() != Some("llama3") {
        bail!("rope_scaling {scaling} is not known to this adapter");
    }
    let number = |key: &str| scaling[key].as_f64().with_context(|| format!("no {key}"));
    let (factor, old) = (number("factor")?, number("original_max_position_embeddings")?);
    let (low, high) = (number("low_freq_factor")?, number("high_freq_factor")?);
    for speed in &mut speeds {
        let turns = old * *speed / std::f64::consts::TAU;
        let smooth = ((turns - low) / (high - low)).clamp(0.0, 1.0);
        *speed = *speed / factor * (1.0 - smooth) + *speed * smooth;
    }
    Ok(speeds.into_iter().map(|speed| speed as f32).collect())
}

impl Llama {
    pub fn load(folder: &Path, device: Device) -> Result<Self> {
        let config = protocol::read_config(folder)?;
        if config["model_type"].as_str() != Some("llama") {
            bail!("this adapter runs Llama, not {}", config["model_type"]);
        }
        let size = |key: &str| {
            config[key].as_u64().map(|size| size as usize).with_context(|| format!("no {key}"))
        };
        let heads = size("num_attention_heads")?;
        let head_dim = size("head_dim").or_else(|_| size("hidden_size").map(|n| n / heads))?;
        let bytes: Vec<Vec<u8>> =
            protocol::weight_files(folder)?.iter().map(std::fs::read).collect::<std::io::Result<_>>()?;
        let files =
            bytes.iter().map(|data| SafeTensors::deserialize(data)).collect::<Result<_, _>>()?;
        let weights = Weights { files, device: &device };
        let mut layers = Vec::new();
        for layer in 0..size("num_hidden_layers")? {
            let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
            layers.push(Layer {
                norm_attention: weights.vector(&name("input_layernorm"))?,
                norm_mlp: weights.vector(&name("post_attention_layernorm"))?,
                query: weights.linear(&name("self_attn.q_proj"))?,
                key: weights.linear(&name("self_attn.k_proj"))?,
                value: weights.linear(&name("self_attn.v_proj"))?,
                output: weights.linear(&name("self_attn.o_proj"))?,
                gate: weights.linear(&name("mlp.gate_proj"))?,
                up: weights.linear(&name("mlp.up_proj"))?,
                down: weights.linear(&name("mlp.down_proj"))?,
            });
        }
        let tied = config["tie_word_embeddings"].as_bool().unwrap_or(false);
        let head = if tied { "model.embed_tokens.weight" } else { "lm_head.weight" };
        Ok(Llama {
            eos: protocol::end_ids(&config),
            embedding: weights.table("model.embed_tokens.weight")?,
            head: weights.linear(head)?,
            norm: weights.vector("model.norm.weight")?,
            layers,
            heads,
            kv_heads: size("num_key_value_heads").unwrap_or(heads),
            head_dim,
            epsilon: config["rms_norm_eps"].as_f64().unwrap_or(1e-5),
            frequencies: frequencies(&config, head_dim)?,
            device: device.clone(),
        })
    }

    pub fn cache(&self) -> Cache {
        Cache { layers: self.layers.iter().map(|_| None).collect(), length: 0 }
    }

    fn rms_norm(&self, input: Tensor<3>, weight: &Tensor<1>) -> Tensor<3> {
        let scale = input.clone().square().mean_dim(2).add_scalar(self.epsilon).sqrt().recip();
        input * scale * weight.clone().reshape([1, 1, -1])
    }

    /// Cosines and sines of the positions, each `[1, 1, positions, head_dim / 2]`.
    fn angles(&self, begin: usize, count: usize) -> (Tensor<4>, Tensor<4>) {
        let half = self.frequencies.len();
        let turns = (begin..begin + count)
            .flat_map(|position| self.frequencies.iter().map(move |speed| position as f32 * speed));
        let (cosines, sines): (Vec<f32>, Vec<f32>) =
            turns.map(|turn| (turn.cos(), turn.sin())).unzip();
        let tensor = |values: Vec<f32>| {
            Tensor::from_data(TensorData::new(values, [1, 1, count, half]), &self.device)
        };
        (tensor(cosines), tensor(sines))
    }

    fn rotate(&self, input: Tensor<4>, angles: &(Tensor<4>, Tensor<4>)) -> Tensor<4> {
        let half = self.head_dim / 2;
        let (first, second) = (input.clone().narrow(3, 0, half), input.narrow(3, half, half));
        let (cosine, sine) = (angles.0.clone(), angles.1.clone());
        Tensor::cat(
            vec![
                first.clone() * cosine.clone() - second.clone() * sine.clone(),
                second * cosine + first * sine,
            ],
            3,
        )
    }

    fn attention(
        &self,
        layer: &Layer,
        input: Tensor<3>,
        angles: &(Tensor<4>, Tensor<4>),
        kept: &mut Option<(Tensor<4>, Tensor<4>)>,
    ) -> Tensor<3> {
        let [rows, count, _] = input.dims();
        let split = |weight: &Tensor<2>, heads: usize| {
            module::linear(input.clone(), weight.clone(), None)
                .reshape([rows, count, heads, self.head_dim])
                .swap_dims(1, 2)
        };
        let query = self.rotate(split(&layer.query, self.heads), angles);
        let mut key = self.rotate(split(&layer.key, self.kv_heads), angles);
        let mut value = split(&layer.value, self.kv_heads);
        if let Some((keys, values)) = kept.take() {
            key = Tensor::cat(vec![keys, key], 2);
            value = Tensor::cat(vec![values, value], 2);
        }
        *kept = Some((key.clone(), value.clone()));
        let group = self.heads / self.kv_heads;
        let positions = key.dims()[2];
        let repeat = |tensor: Tensor<4>| {
            tensor.unsqueeze_dim::<5>(2).repeat_dim(2, group).reshape([
                rows,
                self.heads,
                positions,
                self.head_dim,
            ])
        };
        // Prompts run whole on an empty cache, so that a step of several tokens is causal from
        // its first key on.
        let options = AttentionModuleOptions { is_causal: count > 1, ..Default::default() };
        let mixed = module::attention(query, repeat(key), repeat(value), None, None, options)
            .swap_dims(1, 2)
            .reshape([rows, count, self.heads * self.head_dim]);
        module::linear(mixed, layer.output.clone(), None)
    }

    /// The most likely next token of each row. `tokens` are `[rows][count]`; more than one a row
    /// only on an empty cache.
    pub fn step(&self, tokens: &[u32], rows: usize, cache: &mut Cache) -> Result<Vec<u32>> {
        let count = tokens.len() / rows;
        let ids: Vec<i32> = tokens.iter().map(|token| *token as i32).collect();
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [rows, count]), &self.device);
        let mut hidden = module::embedding(self.embedding.clone(), ids);
        let angles = self.angles(cache.length, count);
        for (layer, kept) in self.layers.iter().zip(&mut cache.layers) {
            let normed = self.rms_norm(hidden.clone(), &layer.norm_attention);
            hidden = hidden + self.attention(layer, normed, &angles, kept);
            let normed = self.rms_norm(hidden.clone(), &layer.norm_mlp);
            let gate = silu(module::linear(normed.clone(), layer.gate.clone(), None));
            let up = module::linear(normed, layer.up.clone(), None);
            hidden = hidden + module::linear(gate * up, layer.down.clone(), None);
        }
        cache.length += count;
        let last = self.rms_norm(hidden.narrow(1, count - 1, 1), &self.norm);
        let chosen = module::linear(last, self.head.clone(), None).argmax(2).into_data();
        Ok(chosen.iter::<i64>().map(|id| id as u32).collect())
    }
}
