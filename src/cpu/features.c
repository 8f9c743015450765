/* Owns the names and the order of instruction-set levels. Stateless: any thread. */
#include "cpu/features.h"

#include <stdio.h>
#include <string.h>

enum cpu_level cpu_features_level(const struct cpu_features *features)
{
    if (features->neon) {
        return CPU_NEON;
    }
    if (features->avx512) {
        return CPU_AVX512;
    }
    return features->avx2_fma_f16c ? CPU_AVX2 : CPU_SCALAR;
}

void cpu_features_mask(struct cpu_features *features, enum cpu_level level, bool no_extensions)
{
    /* No NEON kernel has been run on silicon yet, so they have to be asked for by name. */
    if (features->neon && level == CPU_NEON) {
        features->dotprod = features->dotprod && !no_extensions;
        features->i8mm = features->i8mm && !no_extensions;
        return;
    }
    features->neon = features->dotprod = features->i8mm = false;
    bool keep_avx512 = level >= CPU_AVX512 && level != CPU_NEON;
    bool keep_avx2 = keep_avx512 || level == CPU_AVX2;
    if (!keep_avx512) {
        features->avx512 = false;
        features->avx512_vnni = false;
        features->avx512_fp16 = false;
    }
    if (level != CPU_AVX512_BF16) {
        features->avx512_bf16 = false;
    }
    bool has_tiles = (level == CPU_AMX || level == CPU_LEVEL_COUNT) && cpu_features_request_amx();
    features->amx_bf16 = features->amx_bf16 && has_tiles;
    features->amx_int8 = features->amx_int8 && has_tiles && level == CPU_AMX;
    if (!keep_avx2) {
        *features = (struct cpu_features){0};
    }
    if (no_extensions) {
        *features = (struct cpu_features){
            .avx2_fma_f16c = features->avx2_fma_f16c,
            .avx512 = features->avx512,
        };
    }
}

enum cpu_level cpu_level_detect(void)
{
    struct cpu_features features;
    cpu_features_detect(&features);
    return cpu_features_level(&features);
}

const char *cpu_level_name(enum cpu_level level)
{
    static const char *const names[CPU_LEVEL_COUNT] = {
        [CPU_SCALAR] = "scalar",           [CPU_AVX2] = "avx2",
        [CPU_AVX512] = "avx512",           [CPU_NEON] = "neon",
        [CPU_AVX512_BF16] = "avx512-bf16", [CPU_AMX] = "amx",
    };
    return (unsigned)level < CPU_LEVEL_COUNT ? names[level] : "unknown";
}

void cpu_model_name(char *name, uint32_t bytes)
{
    char line[512];
    FILE *stream = fopen("/proc/cpuinfo", "re");
    snprintf(name, bytes, "CPU");
    while (stream && fgets(line, sizeof line, stream)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon && colon[1] == ' ') {
            line[strcspn(line, "\n")] = '\0';
            snprintf(name, bytes, "%s", colon + 2);
            break;
        }
    }
    if (stream) {
        fclose(stream);
    }
}
