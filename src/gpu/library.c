/* Finding and loading shared libraries. Owns nothing: what is loaded stays loaded. Any thread.
 * Knows no vendor beyond the folders in which they put their files. */
#include "gpu/library.h"

#include "base/file.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

/* Below a folder that an operator names: the folder itself, a toolkit's, ROCm's, and those of the
 * vendor's Python wheels (below site-packages/nvidia). */
static const char *const subfolders[] = {
    "", "lib64", "lib", "cu13/lib", "cuda_nvrtc/lib", "cublas/lib", "nvjitlink/lib"};
/* Where libraries are when nobody said anything; the loader's own list has more. */
static const char system_folders[] = "/usr/lib/x86_64-linux-gnu:/usr/lib/aarch64-linux-gnu:"
                                     "/usr/lib64:/usr/lib:/usr/local/cuda:/opt/rocm";

typedef bool candidate_visitor(void *user, const char *path);

/* Calls `visit` with every file that exists until it returns true. */
static bool each_candidate(const char *const *names, const char *folders, candidate_visitor *visit,
                           void *user)
{
    char path[LIBRARY_PATH_BYTES];
    while (folders && *folders) {
        size_t length = strcspn(folders, ":");
        for (size_t sub = 0; *folders == '/' && sub < sizeof subfolders / sizeof *subfolders;
             sub++) {
            for (const char *const *name = names; *name; name++) {
                int written = snprintf(path, sizeof path, "%.*s/%s%s%s", (int)length, folders,
                                       subfolders[sub], *subfolders[sub] ? "/" : "", *name);
                if (written > 0 && (size_t)written < sizeof path && file_exists(path) &&
                    visit(user, path)) {
                    return true;
                }
            }
        }
        folders += length + (folders[length] == ':');
    }
    return false;
}

struct opening {
    void *library;
    char *why;
    size_t why_bytes;
};

static void note_reason(char *why, size_t why_bytes)
{
    const char *reason = dlerror();
    if (why && why_bytes && !*why) {
        snprintf(why, why_bytes, "%s", reason ? reason : "cannot be loaded");
    }
}

static bool open_candidate(void *user, const char *path)
{
    struct opening *opening = user;
    opening->library = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
    if (!opening->library) {
        note_reason(opening->why, opening->why_bytes);
    }
    return opening->library != NULL;
}

static bool accept_candidate(void *user, const char *path)
{
    (void)user;
    (void)path;
    return true;
}

void *library_open(const char *const *names, const char *folders, char *why, size_t why_bytes)
{
    struct opening opening = {NULL, why, why_bytes};
    if (why && why_bytes) {
        *why = 0;
    }
    if (each_candidate(names, folders, open_candidate, &opening)) {
        return opening.library;
    }
    for (const char *const *name = names; *name; name++) {
        void *library = dlopen(*name, RTLD_LAZY | RTLD_LOCAL);
        if (library) {
            return library;
        }
    }
    each_candidate(names, system_folders, open_candidate, &opening);
    return opening.library;
}

void *library_open_file(const char *path, char *why, size_t why_bytes)
{
    if (why && why_bytes) {
        *why = 0;
    }
    void *library = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
    if (!library) {
        note_reason(why, why_bytes);
    }
    return library;
}

void library_open_beside(void *function, const char *name)
{
    Dl_info info;
    char path[LIBRARY_PATH_BYTES];
    if (!dladdr(function, &info) || !info.dli_fname) {
        return;
    }
    const char *slash = strrchr(info.dli_fname, '/');
    int length = slash ? (int)(slash - info.dli_fname) : 0;
    int written = snprintf(path, sizeof path, "%.*s/%s", length, info.dli_fname, name);
    if (slash && written > 0 && (size_t)written < sizeof path && file_exists(path)) {
        dlopen(path, RTLD_LAZY | RTLD_LOCAL);
    }
}

static bool keep_candidate(void *user, const char *path)
{
    snprintf(user, LIBRARY_PATH_BYTES, "%s", path);
    return true;
}

bool library_find(const char *const *names, const char *folders, char path[LIBRARY_PATH_BYTES])
{
    return each_candidate(names, folders, keep_candidate, path);
}

bool library_present(const char *const *names, const char *folders)
{
    return each_candidate(names, folders, accept_candidate, NULL) ||
           each_candidate(names, system_folders, accept_candidate, NULL);
}

const char *library_bind(void *library, const struct library_symbol *symbols, size_t count,
                         void *table)
{
    for (size_t i = 0; i < count; i++) {
        void *address = dlsym(library, symbols[i].name);
        if (!address) {
            return symbols[i].name;
        }
        memcpy((char *)table + symbols[i].offset, &address, sizeof address);
    }
    return NULL;
}
