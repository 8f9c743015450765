# Warnings are errors. Each of these has found a bug somewhere; -Wconversion above all, because a
# narrowed count from a hostile file is how loaders get overrun.
add_compile_options(
    -Wall -Wextra -Werror -Wshadow -Wconversion -Wsign-conversion -Wvla -Wpointer-arith -Wundef
    -Wcast-qual -Wwrite-strings -Wformat=2 -Wnull-dereference
    $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes>
    $<$<COMPILE_LANGUAGE:C>:-Wmissing-prototypes>
    $<$<COMPILE_LANGUAGE:C>:-Wold-style-definition>)
if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
    add_compile_options(-Wlogical-op -Wduplicated-cond $<$<COMPILE_LANGUAGE:C>:-Wno-format-truncation>)
endif()
if(CMAKE_C_COMPILER_ID MATCHES "Clang")
    # clang does not see that a va_list function passes on a format that was checked at its caller.
    add_compile_options(-Wno-format-nonliteral)
endif()
# Sums must run in one order on every machine: no contraction into fused multiply-add behind our
# back; kernels that want it say so with intrinsics.
add_compile_options(-ffp-contract=off)
