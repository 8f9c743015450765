//! mistral.rs behind the engine protocol of `llcuda bench` (docs/internals/bench-protocol.md): JSON
//! lines on standard input and output, one model, greedy decoding.
//!
//! Requests go to the engine of mistral.rs as they come; it batches them as it does for its own
//! server. Its stream carries texts without ids, and keeps a text back until its characters are
//! whole, so tokens are taken where they are chosen: a logits processor, which changes nothing,
//! looks for the largest logit and stamps it. That search is done twice then, which is the price.

use anyhow::{anyhow, bail, Context, Result};
use mistralrs::core::MistralRsBuilder;
use mistralrs::model_builder_trait::{build_gguf_pipeline, build_text_pipeline};
use mistralrs::{
    Constraint, CustomLogitsProcessor, Device, GgufModelBuilder, MistralRs, ModelDType,
    NormalRequest, Request, RequestMessage, Response, SamplingParams, StopTokens, Tensor,
    TextModelBuilder,
};
use llcuda_bench_protocol::{self as protocol, Lines, Prompt, Run};
use serde_json::{json, Value};
use std::io::BufRead;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::sync::mpsc;

struct Loaded {
    engine: Arc<MistralRs>,
    eos: Vec<u32>,
}

fn open_device(name: &str) -> Result<Option<Device>> {
    match name.split_once(':').unwrap_or((name, "0")) {
        ("cpu" | "", _) => Ok(None),
        ("cuda", index) => Ok(Some(Device::new_cuda(index.parse()?)?)),
        _ => bail!("the device '{name}' is not known to this adapter"),
    }
}

async fn load(request: &Value) -> Result<Loaded> {
    let device = open_device(request["device"].as_str().unwrap_or("cpu"))?;
    let path = PathBuf::from(request["model"].as_str().context("load names no model")?);
    let parallel = request["parallel"].as_u64().unwrap_or(16).max(1) as usize;
    let (pipeline, scheduler, config, eos) = if path.is_file() {
        let folder = path.parent().context("a file without a folder")?.display().to_string();
        let name = path.file_name().context("a file without a name")?.to_string_lossy();
        let mut builder = GgufModelBuilder::new(folder, vec![name]).with_max_num_seqs(parallel);
        builder = match device {
            Some(device) => builder.with_device(device),
            None => builder.with_force_cpu(),
        };
        let (pipeline, scheduler, config) = build_gguf_pipeline(builder).await?;
        (pipeline, scheduler, config, Vec::new()) // the file keeps the ids that end an answer
    } else {
        let dtype = match request["options"]["dtype"].as_str().unwrap_or("auto") {
            "auto" => ModelDType::Auto,
            "f32" => ModelDType::F32,
            "f16" => ModelDType::F16,
            "bf16" => ModelDType::BF16,
            other => bail!("dtype '{other}' is none of auto, f32, f16, bf16"),
        };
        let mut builder = TextModelBuilder::new(path.display().to_string())
            .with_dtype(dtype)
            .with_max_num_seqs(parallel);
        builder = match device {
            Some(device) => builder.with_device(device),
            None => builder.with_force_cpu(),
        };
        let (pipeline, scheduler, config) = build_text_pipeline(builder).await?;
        (pipeline, scheduler, config, protocol::end_ids(&protocol::read_config(&path)?))
    };
    // Answers of a fixed length need an engine that does not stop by itself; where they may end,
    // each request names the ids that end it.
    let engine = MistralRsBuilder::new(pipeline, scheduler, false, None)
        .with_no_kv_cache(config.engine_config.no_kv_cache)
        .with_no_prefix_cache(config.engine_config.no_prefix_cache)
        .with_prefix_cache_n(config.engine_config.prefix_cache_n)
        .with_disable_eos_stop(!eos.is_empty())
        .build()
        .await;
    Ok(Loaded { engine, eos })
}

/// How far an answer is.
#[derive(Default)]
struct Progress {
    count: AtomicUsize,
    ended: AtomicBool,
}

/// Tells the tokens of an answer as they are chosen. The engine may look at one more after the end
/// of an answer was told: that is none of it.
fn watcher(
    lines: Arc<Mutex<Lines>>,
    id: i64,
    index: usize,
    progress: Arc<Progress>,
) -> Arc<dyn CustomLogitsProcessor> {
    Arc::new(move |logits: &Tensor, _: &[u32]| {
        let best = logits.argmax(logits.rank() - 1)?.flatten_all()?.to_vec1::<u32>()?;
        if let Some(token) = best.first() {
            let mut lines = lines.lock().unwrap();
            if !progress.ended.load(Ordering::Relaxed) {
                progress.count.fetch_add(1, Ordering::Relaxed);
                lines.token(id, index, *token);
            }
        }
        Ok(logits.clone())
    })
}

/// Hands a prompt to the engine; what comes back arrives at the receiver.
async fn submit(
    loaded: &Loaded,
    prompt: &Prompt,
    ignore_eos: bool,
    watcher: Arc<dyn CustomLogitsProcessor>,
) -> Result<mpsc::Receiver<Response>> {
    let (sender, receiver) = mpsc::channel(prompt.max_tokens + 8);
    let mut sampling = SamplingParams::deterministic();
    sampling.max_len = Some(prompt.max_tokens);
    if !ignore_eos && !loaded.eos.is_empty() {
        sampling.stop_toks = Some(StopTokens::Ids(loaded.eos.clone()));
    }
    let request = Request::Normal(Box::new(NormalRequest {
        messages: RequestMessage::CompletionTokens(prompt.ids.clone()),
        sampling_params: sampling,
        response: sender,
        return_logprobs: false,
        is_streaming: true,
        id: loaded.engine.next_request_id(),
        constraint: Constraint::None,
        suffix: None,
        tools: None,
        tool_choice: None,
        logits_processors: Some(vec![watcher]),
        return_raw_logits: false,
        web_search_options: None,
        model_id: None,
        truncate_sequence: false,
    }));
    let engine = loaded.engine.get_sender(None).map_err(|error| anyhow!("{error:?}"))?;
    engine.send(request).await.map_err(|_| anyhow!("the engine of mistral.rs has ended"))?;
    Ok(receiver)
}

/// Follows one answer to its end.
async fn follow(
    mut receiver: mpsc::Receiver<Response>,
    lines: &Mutex<Lines>,
    id: i64,
    prompt: &Prompt,
    progress: &Progress,
) -> Result<()> {
    let mut finish = "length".to_string();
    // A last token that completes no character sends nothing: then the channel closes.
    while let Some(response) = receiver.recv().await {
        match response {
            Response::CompletionChunk(chunk) => {
                let choice = chunk.choices.first().context("a piece without a choice")?;
                if let Some(reason) = &choice.finish_reason {
                    finish.clone_from(reason);
                    break;
                }
            }
            Response::InternalError(error) | Response::ValidationError(error) => bail!("{error}"),
            Response::CompletionModelError(error, _) => bail!("{error}"),
            _ => bail!("mistral.rs answered with what is no piece of a completion"),
        }
    }
    let mut lines = lines.lock().unwrap();
    progress.ended.store(true, Ordering::Relaxed);
    let count = progress.count.load(Ordering::Relaxed);
    lines.done(id, prompt, count, &finish);
    Ok(())
}

async fn run(loaded: Arc<Loaded>, lines: Arc<Mutex<Lines>>, run: Run, prompts: Vec<Prompt>) {
    let id = run.id;
    let result = async {
        let mut tasks = Vec::new();
        for prompt in prompts {
            let progress = Arc::new(Progress::default());
            let watcher = watcher(lines.clone(), id, prompt.index, progress.clone());
            let receiver = submit(&loaded, &prompt, run.ignore_eos, watcher).await?;
            let lines = lines.clone();
            tasks.push(tokio::spawn(async move {
                follow(receiver, &lines, id, &prompt, &progress).await
            }));
        }
        for task in tasks {
            task.await??;
        }
        Ok::<(), anyhow::Error>(())
    }
    .await;
    lines.lock().unwrap().say(&match result {
        Ok(()) => json!({"ok": true, "op": "run", "id": id}),
        Err(error) => protocol::failure(&json!({"op": "run", "id": id}), &error),
    });
}

async fn answer(
    loaded: &mut Option<Arc<Loaded>>,
    lines: &Arc<Mutex<Lines>>,
    request: &Value,
) -> Result<Option<Value>> {
    match request["op"].as_str().unwrap_or("") {
        "hello" => {
            let version = env!("MISTRALRS_VERSION");
            protocol::hello(request, "mistral.rs", version, 256, json!({})).map(Some)
        }
        "load" => {
            let begin = Instant::now();
            let model = load(request).await?;
            let ends = model.eos.len();
            *loaded = Some(Arc::new(model));
            Ok(Some(protocol::loaded(begin, json!({"end_ids": ends}))))
        }
        "run" => {
            let model = loaded.clone().ok_or_else(|| anyhow!("run before load"))?;
            let about = protocol::read_run(request);
            lines.lock().unwrap().hold = about.hold;
            let prompts = protocol::read_prompts(request)?;
            tokio::spawn(run(model, lines.clone(), about, prompts));
            Ok(None)
        }
        op => match protocol::simple_answer(op) {
            Some(answer) => Ok(Some(answer)),
            None => bail!("there is no operation '{op}'"),
        },
    }
}

async fn serve() -> Result<()> {
    let lines = Arc::new(Mutex::new(Lines::default()));
    let (sender, mut input) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let mut loaded = None;
    while let Some(line) = input.recv().await {
        let request = protocol::read_request(&line)?;
        if request["op"] == "load" {
            // Before the first thread that would be one too many, which is before the first await.
            protocol::limit_threads(&request);
        }
        let reply = answer(&mut loaded, &lines, &request)
            .await
            .unwrap_or_else(|error| Some(protocol::failure(&request, &error)));
        if let Some(reply) = reply {
            lines.lock().unwrap().say(&reply);
        }
        if request["op"] == "stop" {
            break;
        }
    }
    Ok(())
}

fn main() -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(serve());
    // Threads of the engine wait for requests that will not come.
    runtime.shutdown_background();
    result
}
