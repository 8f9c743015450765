"""A scripted engine for the tests of the suite: behaves, or misbehaves as its argument says.
    fake_engine.py [good|rubbish|hang|die|version|refuse|fails|early|big] [first_ms] [token_ms]
    fake_engine.py holds [first_ms] [token_ms]   is good, and logs how long it may hold lines back
    fake_engine.py steals FILE N      during its first N sessions a host takes half of the time: FILE
        stands for /proc/stat
    fake_engine.py heat FILE          a GPU of 55 °C that FILE stands for is at 93 once it works
    fake_engine.py profile WHAT [FILE]
        tells its operations: WHAT is the tests of the answer as JSON, or one of refuse, rubbish, hang
        and die. FILE counts the sessions: each takes a twentieth of the first one's time longer."""
import json
import os
import sys
import time

behaviour = sys.argv[1] if len(sys.argv) > 1 else "good"
first_ms = float(sys.argv[2]) if len(sys.argv) > 2 and behaviour not in ("heat", "profile", "steals") else 2
token_ms = float(sys.argv[3]) if len(sys.argv) > 3 and behaviour not in ("profile", "steals") else 0.5
session = 0
if behaviour == "steals":
    with open(sys.argv[2] + ".sessions", "a+", encoding="ascii") as sessions:
        sessions.write("x")
        session = sessions.tell()


def say(message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def run(request):
    if behaviour in ("rubbish", "hang"):
        print("trouble & <u>smoke</u>", file=sys.stderr, flush=True)
    if behaviour == "rubbish":
        print("this is <b>no</b> message", flush=True)
        time.sleep(60)
    if behaviour == "hang":
        time.sleep(600)
    if behaviour == "die":
        print("out of memory: <script>alert(1)</script>", file=sys.stderr, flush=True)
        sys.exit(3)
    if behaviour == "big":
        keep = bytearray(600_000_000)
        for place in range(0, len(keep), 4096):
            keep[place] = 1
        time.sleep(60)
    if behaviour == "heat":
        with open(sys.argv[2], encoding="ascii") as file:
            cold = file.read().strip() == "55"
        if cold:
            with open(sys.argv[2] + ".new", "w", encoding="ascii") as file:
                file.write("93")
            os.replace(sys.argv[2] + ".new", sys.argv[2])
            time.sleep(60)
    if behaviour == "early":
        say({"ok": True, "op": "run", "id": request["id"]})
        return
    if behaviour == "fails":
        say({"ok": False, "op": "run", "id": request["id"], "error": "the scripted engine says no"})
        return
    if behaviour == "steals":
        with open(sys.argv[2], encoding="ascii") as file:
            numbers = file.read().split()
        idle, stolen = int(numbers[4]), int(numbers[8])
        steals = session <= int(sys.argv[3])
        with open(sys.argv[2] + ".new", "w", encoding="ascii") as file:
            file.write(f"cpu 0 0 0 {idle + (50 if steals else 100)} 0 0 0 {stolen + 50 * steals} 0\n")
        os.replace(sys.argv[2] + ".new", sys.argv[2])
    if behaviour == "holds":
        print("hold", request["hold_us"], file=sys.stderr, flush=True)
        began = time.monotonic()
    time.sleep(first_ms / 1e3)
    counts = [item["max_tokens"] for item in request["requests"]]
    for step in range(max(counts)):
        if step:
            time.sleep(token_ms / 1e3)
        for index, count in enumerate(counts):
            if step < count:
                say({"event": "token", "id": request["id"], "index": index, "token": 5 + step})
            if step + 1 == count:
                say({"event": "done", "id": request["id"], "index": index, "finish": "length",
                     "prompt_tokens": len(request["requests"][index]["prompt_ids"]),
                     "completion_tokens": count})
    if behaviour == "holds":
        print("took", int((time.monotonic() - began) * 1e6), file=sys.stderr, flush=True)
    if behaviour == "profile":
        time.sleep(0.02)  # the harness asks for something else before it has read this
    say({"ok": True, "op": "run", "id": request["id"]})


def profile(request):
    what = sys.argv[2]
    if what == "refuse":
        say({"ok": False, "op": "profile", "error": "this <engine> cannot tell"})
    elif what == "rubbish":
        print("attention took <b>long</b>", flush=True)
    elif what == "hang":
        time.sleep(600)
    elif what == "die":
        print("the profiler fell over", file=sys.stderr, flush=True)
        sys.exit(3)
    else:
        slower = 1.0
        if len(sys.argv) > 3:
            with open(sys.argv[3], "a+", encoding="ascii") as file:
                file.write("x")
                slower += 0.05 * (file.tell() - 1)
        tests = json.loads(what)
        for test in tests:
            test["ns"] *= slower
            for row in test["operations"]:
                if isinstance(row["ns"], float):
                    row["ns"] *= slower
        asked = {test["name"] for test in request["tests"]}
        say({"ok": True, "op": "profile", "tests": [test for test in tests
                                                   if test["name"] in asked]})


def main():
    for line in sys.stdin:
        request = json.loads(line)
        op = request["op"]
        if op == "hello":
            say({"ok": True, "op": op, "version": 99 if behaviour == "version" else 1,
                 "engine": "scripted <i>engine</i>", "engine_version": "1", "concurrent": 1,
                 "profile": behaviour == "profile"})
        elif op == "load" and behaviour == "refuse":
            say({"ok": False, "op": op, "error": "no such model & no memory"})
        elif op == "run":
            run(request)
        elif op == "profile":
            profile(request)
        else:
            say({"ok": True, "op": op, "metrics": {}})
        if op == "stop":
            break


if __name__ == "__main__":
    main()
