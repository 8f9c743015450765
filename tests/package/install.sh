#!/bin/sh
# Installs the library into an empty folder and uses it from there, as other programs would: through
# pkg-config with the shared and the static library, and through the CMake package. Then looks at
# what the shared library shows to the world.
set -eu
source=$1 build=$2 compiler=$3 model=$4
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

cmake --install "$build" --component library --prefix "$folder/prefix" >"$folder/log"
library=$(dirname "$(find "$folder/prefix" -name libllcuda.so)")
export PKG_CONFIG_PATH="$library/pkgconfig" LD_LIBRARY_PATH="$library"

ask() { # ask NAME COMMAND…: the command must answer 4
    name=$1
    shift
    "$@" "$model" "What is 2+2?" >"$folder/out" 2>"$folder/err" || {
        cat "$folder/err"
        exit 1
    }
    grep -q 4 "$folder/out" || {
        echo "$name answers: $(cat "$folder/out")"
        exit 1
    }
    echo "$name: ok"
}

"$compiler" -std=c11 "$source/examples/complete.c" -o "$folder/shared" \
    $(pkg-config --cflags --libs llcuda)
ask "pkg-config, shared" "$folder/shared"
"$compiler" -std=c11 "$source/examples/complete.c" -o "$folder/static" \
    $(pkg-config --cflags llcuda) "$library/libllcuda.a" \
    $(pkg-config --static --libs-only-l llcuda | sed 's/-lllcuda//')
ask "pkg-config, static" "$folder/static"

cmake -S "$source/examples" -B "$folder/examples" -DCMAKE_PREFIX_PATH="$folder/prefix" \
    -DCMAKE_BUILD_TYPE=Release >"$folder/log" || {
    cat "$folder/log"
    exit 1
}
cmake --build "$folder/examples" >"$folder/log" 2>&1 || {
    cat "$folder/log"
    exit 1
}
ask "CMake package, C" "$folder/examples/example_complete"
ask "CMake package, C++" "$folder/examples/example_complete_cpp"

foreign=$(nm -D --defined-only "$library/libllcuda.so" | awk '{print $3}' | grep -v '^llcuda_' || true)
if [ -n "$foreign" ]; then
    echo "the shared library shows more than its interface: $foreign"
    exit 1
fi
echo "symbols: ok"
