/* The one table of subcommands: dispatch, help, man page, completion and docs come from here.
 * X(id, name, positional arguments or "", summary, description, example) */
#ifndef CLI_COMMAND_TABLE_H
#define CLI_COMMAND_TABLE_H

#define COMMAND_LIST(X)                                                                            \
    X(INFER, infer, "", "continue a text, or answer one chat turn with --chat",                    \
      "Prints the continuation and nothing else. On a terminal it streams. Without -p or -f the "  \
      "prompt is read from standard input when that is no terminal.",                              \
      "llcuda infer -p \"What is 2+2?\"\n"                                                         \
      "llcuda infer -m model.gguf --chat -p \"Write a haiku\" --temp 0.7 --seed 1\n"               \
      "llcuda infer -m model.gguf -f prompt.txt -n 200 --json")                                    \
    X(CHAT, chat, "", "hold a conversation",                                                       \
      "Reads a line, prints the answer, and remembers both. On a terminal lines can be edited "    \
      "and recalled; from a pipe each line is one turn. /reset forgets the conversation, /quit "   \
      "ends it.",                                                                                  \
      "llcuda chat -m model.gguf -s \"Answer briefly.\"\n"                                         \
      "echo \"What is 6 x 7?\" | llcuda chat")                                                     \
    X(BATCH, batch, "", "answer a file of requests",                                               \
      "Each line {\"id\", \"prompt\" | \"messages\", \"max_tokens\", ...} gives one line "         \
      "{\"id\", \"text\", \"finish_reason\", \"usage\"} or {\"id\", \"error\"}. OpenAI batch "     \
      "lines give "                                                                                \
      "OpenAI batch lines. A run that was stopped goes on where it stopped.",                      \
      "llcuda batch -m model.gguf -i requests.jsonl -o answers.jsonl")                             \
    X(SERVE, serve, "", "answer over HTTP, as OpenAI's API does",                                  \
      "Serves /v1/chat/completions, /v1/completions, /v1/models and more to any OpenAI client. "   \
      "On a loopback address no key is needed; other addresses need --api-key or "                 \
      "--api-key-file. SIGTERM lets running answers end, SIGHUP reads the key file again.",        \
      "llcuda serve -m model.gguf\n"                                                               \
      "llcuda serve -m model.gguf --host 0.0.0.0 --port 8000 --api-key-file keys.txt")             \
    X(TOKENIZE, tokenize, "[TEXT]", "turn text into token ids",                                    \
      "Prints the ids separated by spaces. Special tokens in the text count as special tokens.",   \
      "llcuda tokenize -m model.gguf \"Hello world\"\n"                                            \
      "llcuda tokenize -f book.txt --json")                                                        \
    X(DETOKENIZE, detokenize, "ID...", "turn token ids into text", "Prints the text of the ids.",  \
      "llcuda detokenize -m model.gguf 9906 1917")                                                 \
    X(TEMPLATE, template, "", "render a chat template",                                            \
      "Renders {messages, tools?, add_generation_prompt?, bos_token?, eos_token?, now?, ...} "     \
      "and prints the rendering and nothing else. When the template refuses the "                  \
      "conversation, its own message is shown and the exit status is 1.",                          \
      "llcuda template -m model.gguf --input conversation.json\n"                                  \
      "llcuda template --template chat.jinja --input conversation.json")                           \
    X(INSPECT, inspect, "[MODEL]", "show what a model file holds",                                 \
      "Container, architecture, configuration, tensors and their types. Reads headers only.",      \
      "llcuda inspect model.gguf\n"                                                                \
      "llcuda inspect --json folder/")                                                             \
    X(EVAL, eval, "", "write the logits of given tokens",                                          \
      "Runs the token ids through the model and writes the logits of every position.",             \
      "llcuda eval -m model.gguf --ids \"1 2 3\" --logits out.npy")                                \
    X(PERPLEXITY, perplexity, "", "measure how well a model predicts a text",                      \
      "The text is cut into windows of the context's length; the first half of each is only "      \
      "context, the second half counts.",                                                          \
      "llcuda perplexity -m model.gguf -f book.txt")                                               \
    X(QUANTIZE, quantize, "IN OUT TYPE", "write a model with other types of weights",              \
      "IN is a GGUF file or a Hugging Face folder, OUT a GGUF file, which appears when it is "     \
      "whole. TYPE is f32, f16, bf16, q8_0, q6_k, q5_k_m, q5_k_s, q5_0, q5_1, q4_k_m, q4_k_s, "    \
      "q4_0, q4_1, iq4_nl, iq4_xs, mxfp4, q3_k_l, q3_k_m, q3_k_s, q2_k, q2_k_s, tq2_0 or tq1_0; "  \
      "the mixes keep the more sensitive weights in more bits, as usual.",                         \
      "llcuda quantize model-f16.gguf model-q4_k_m.gguf q4_k_m\n"                                  \
      "llcuda quantize folder/ model.gguf q4_k_m --imatrix imatrix.gguf --perplexity book.txt")    \
    X(IMATRIX, imatrix, "", "find out which columns of the weights matter",                        \
      "Runs a text through the model and writes the mean square of every weight's inputs, for "    \
      "quantize --imatrix. The file is the GGUF form that other tools use too.",                   \
      "llcuda imatrix -m model-f16.gguf -f book.txt -o imatrix.gguf")                              \
    X(PLAN, plan, "[MODEL]", "show the memory a model will take",                                  \
      "Weights, cache a token and a request, and workspace, before anything is loaded.",           \
      "llcuda plan model.gguf --ctx 4096 --batch 32")                                              \
    X(BENCH, bench, "[compare DIR DIR | report DIR | check FILE | engine]",                        \
      "measure how fast this machine is with a model",                                             \
      "latency: prompts of --pp and generations of --tg tokens at each --depth, one request at a " \
      "time; throughput: --parallel requests together; kernels: what each operation takes, and "   \
      "its share of what the machine allows. Each is run once to warm up, then --repeats times. "  \
      "The other modes, and any flag of the group Load, measure the engine in a process of its "   \
      "own and write a report into --output: concurrent keeps --concurrency requests in flight, "  \
      "sweep raises the request rate up to and beyond what the engine can do, memory takes "       \
      "batches of --batch prompts of --pp tokens, scaling compares --ranks processes that share "  \
      "one load with one. kernels with --output keeps kernels.json and a roofline, also in the "   \
      "folder of a run, whose report then has both. --config does all this for many engines at "   \
      "once. compare A B holds a later run against an earlier one: times, throughput, goodput, "   \
      "memory of the host and the GPU, energy a token, failed requests and runs; the exit status " \
      "is 1 when any of them got worse.",                                                          \
      "llcuda bench -m model.gguf\n"                                                               \
      "llcuda bench -m model.gguf --pp 128,512 --tg 128 --depth 0,4096 --json\n"                   \
      "llcuda bench -m model.gguf --mode kernels\n"                                                \
      "llcuda bench -m model.gguf --mode latency --request-rate 2 --goodput ttft:100,tpot:50\n"    \
      "llcuda bench -m model.gguf --mode concurrent --concurrency 1,8 --duration 30 -o results\n"  \
      "llcuda bench -m model.gguf --mode sweep -o results\n"                                       \
      "llcuda bench --config benchmarks/quick-test.yaml --output results")                         \
    X(EXPERIMENT, experiment, "run FILE.yaml | list | report",                                     \
      "measure combinations of settings and keep the results",                                     \
      "run measures one engine under every combination of factors, with perplexity and exact "     \
      "match beside speed, and keeps all in a database; a run that was stopped goes on. list "     \
      "shows what is kept; report prints one experiment and writes its charts as a PDF.",          \
      "llcuda experiment run quantization.yaml --output results/quantization\n"                    \
      "llcuda experiment report --exp-id quantization-demo --output report.pdf")                   \
    X(DEVICES, devices, "", "list devices, and measure them with --bench",                         \
      "What can compute here, with the ceilings that every speed is a share of.",                  \
      "llcuda devices --bench")                                                                    \
    X(DOCTOR, doctor, "", "look for trouble",                                                      \
      "Checks the machine, the build and the built-in model, and says what is missing and what "   \
      "to do about it.",                                                                           \
      "llcuda doctor")                                                                             \
    X(KERNELS, kernels, "", "compile a model's GPU kernels into a file",                           \
      "For machines that have a GPU but no compiler. Needs the vendor's compiler here (NVRTC, "    \
      "hipRTC), but no GPU.",                                                                      \
      "llcuda kernels -m model.gguf --arch sm_90a -o kernels.pack")                                \
    X(COMPLETION, completion, "bash|zsh|fish", "print a shell completion script",                  \
      "Source it, or put it where the shell looks for completions.",                               \
      "llcuda completion bash > ~/.local/share/bash-completion/completions/llcuda")

#endif
