/* Vendors' libraries, found and loaded while the program runs. Idea: one list of functions yields a
 * struct of typed pointers and the table of names that fills it, so that a declaration, its symbol
 * and the name in an error message cannot differ.
 *
 * A loaded library is never unloaded: drivers keep threads and exit handlers of their own. */
#ifndef GPU_LIBRARY_H
#define GPU_LIBRARY_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of a path that is looked at, the NUL included. */
#define LIBRARY_PATH_BYTES 1024u

/* One function of a library and where its pointer lies in the struct. */
struct library_symbol {
    const char *name;
    size_t offset;
};

/* For the lists of functions: X(member, symbol, parameters). */
#define LIBRARY_MEMBER(member, symbol, parameters) int(*member) parameters;

/* Loads the first library of `names` (NULL at the end), best first, that can be loaded: from the
 * folders of `folders` ("/a:/b", each also with the subfolders that toolkits and Python wheels use;
 * NULL: none), then by name as the system finds it. NULL when there is none; the first words of
 * `why` (may be NULL, `why_bytes` long) then say what the loader said of one that is there but
 * cannot be loaded, empty otherwise. Relative folders are passed over. */
void *library_open(const char *const *names, const char *folders, char *why, size_t why_bytes);

/* Loads exactly this file. NULL and the loader's words as above. */
void *library_open_file(const char *path, char *why, size_t why_bytes);

/* Loads the file `name` in the folder of the library that has `function`, if there is one. */
void library_open_beside(void *function, const char *name);

/* True when one of the names is a file in the folders, or in the usual places of the system: loads
 * nothing, for libraries that take long to load. */
bool library_present(const char *const *names, const char *folders);

/* The path of the first file of these names in the folders; false when there is none. */
bool library_find(const char *const *names, const char *folders, char path[LIBRARY_PATH_BYTES]);

/* Fills the pointers of `table`. Returns NULL, or the name of the first symbol that is missing. */
const char *library_bind(void *library, const struct library_symbol *symbols, size_t count,
                         void *table);

#endif
