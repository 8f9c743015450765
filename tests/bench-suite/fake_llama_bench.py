"""A scripted llama-bench: prints what the real one prints with `-o json`, with samples that its
arguments determine. With `--steals FILE` a host takes half of the processors' time while it measures:
FILE stands for /proc/stat."""
import json
import sys

arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
if arguments["-m"].endswith("broken.gguf"):
    print("error: failed to load the model", file=sys.stderr)
    sys.exit(1)
if "--steals" in arguments:
    with open(arguments["--steals"], encoding="ascii") as file:
        numbers = file.read().split()
    with open(arguments["--steals"], "w", encoding="ascii") as file:
        file.write(f"cpu 0 0 0 {int(numbers[4]) + 50} 0 0 0 {int(numbers[8]) + 50} 0\n")
rows = []
for prompt, output in ((int(arguments["-p"]), 0), (0, int(arguments["-n"]))):
    samples = [prompt * 100_000 + output * 1_000_000 + 1_000_000 * turn
               for turn in range(int(arguments["-r"]))]
    rows.append({"build_commit": "abc", "build_number": 1, "n_threads": int(arguments.get("-t", 1)),
                 "n_gpu_layers": int(arguments["-ngl"]), "model_type": "llama 1B Q8_0",
                 "n_prompt": prompt, "n_gen": output, "n_depth": 0, "samples_ns": samples})
print(json.dumps(rows))
