#!/bin/sh
# Installs the library as a package builder does, into an empty folder that stands for the root, and
# uses it from there as other programs would: every example through pkg-config with the shared and the
# static library, and through the CMake package. Then looks at what the shared library shows to the
# world.
set -eu
source=$1 build=$2 compiler=$3 compiler_cpp=$4 model=$5
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

quietly() { # quietly COMMAND…: its output only when it fails
    "$@" >"$folder/log" 2>&1 || {
        cat "$folder/log"
        exit 1
    }
}

DESTDIR="$folder/root" quietly cmake --install "$build" --component library --prefix /opt/llcuda
[ -f "$folder/root/opt/llcuda/include/llcuda/llcuda.h" ] || {
    echo "DESTDIR was not followed"
    exit 1
}
mv "$folder/root/opt/llcuda" "$folder/prefix" # an installation may be moved
library=$(dirname "$(find "$folder/prefix" -name libllcuda.so)")
export PKG_CONFIG_PATH="$library/pkgconfig" LD_LIBRARY_PATH="$library"

expect() { # expect NAME PATTERN COMMAND…: the command's output must match
    name=$1 pattern=$2
    shift 2
    "$@" >"$folder/out" 2>"$folder/err" || {
        cat "$folder/err"
        exit 1
    }
    grep -q "$pattern" "$folder/out" || {
        echo "$name answers: $(cat "$folder/out")"
        exit 1
    }
    echo "$name: ok"
}

# run_all NAME COMPLETE MANY COMPLETE_CPP EMBED_CPP MODELS_CPP: the examples on the built-in model.
run_all() {
    echo "What is 2+2?" >"$folder/questions"
    expect "$1, complete" 4 "$2" "$model" "What is 2+2?"
    expect "$1, many" 4 sh -c '"$0" "$1" <"$2"' "$3" "$model" "$folder/questions"
    expect "$1, complete_cpp" 4 "$4" "$model" "What is 2+2?"
    expect "$1, embed_cpp" "^1  same" "$5" "$model" same same
    expect "$1, models_cpp" "second:  4" "$6" "$model" "$model" "What is 2+2?"
}

# build_all FOLDER LINK…: every example, with what pkg-config says and these libraries.
build_all() {
    out=$1
    shift
    mkdir -p "$out"
    for name in complete many; do
        quietly "$compiler" -std=c11 "$source/examples/$name.c" -o "$out/$name" \
            $(pkg-config --cflags llcuda) "$@"
    done
    for name in complete embed models; do
        quietly "$compiler_cpp" -std=c++17 "$source/examples/$name.cpp" -o "$out/${name}_cpp" \
            $(pkg-config --cflags llcuda) "$@"
    done
}

build_all "$folder/shared" $(pkg-config --libs llcuda)
run_all "pkg-config, shared" "$folder/shared/complete" "$folder/shared/many" \
    "$folder/shared/complete_cpp" "$folder/shared/embed_cpp" "$folder/shared/models_cpp"
build_all "$folder/static" "$library/libllcuda.a" \
    $(pkg-config --static --libs-only-l llcuda | sed 's/-lllcuda//')
run_all "pkg-config, static" "$folder/static/complete" "$folder/static/many" \
    "$folder/static/complete_cpp" "$folder/static/embed_cpp" "$folder/static/models_cpp"

quietly cmake -S "$source/examples" -B "$folder/examples" -DCMAKE_PREFIX_PATH="$folder/prefix" \
    -DCMAKE_BUILD_TYPE=Release
quietly cmake --build "$folder/examples"
run_all "CMake package" "$folder/examples/example_complete" "$folder/examples/example_many" \
    "$folder/examples/example_complete_cpp" "$folder/examples/example_embed_cpp" \
    "$folder/examples/example_models_cpp"

foreign=$(nm -D --defined-only "$library/libllcuda.so" | awk '{print $3}' | grep -v '^llcuda_' || true)
if [ -n "$foreign" ]; then
    echo "the shared library shows more than its interface: $foreign"
    exit 1
fi
echo "symbols: ok"
