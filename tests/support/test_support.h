/* What the tests share: a seed that is printed, random numbers, files that live as long as a test,
 * and the oracle folder when it is there. Include this first: it brings cmocka with what it needs.
 */
#ifndef TEST_SUPPORT_H
#define TEST_SUPPORT_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/view.h"

/* How often random shapes are drawn: instrumented, each takes many times as long, and the other
 * build has drawn the rest. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TEST_ROUNDS(all, instrumented) (instrumented)
#else
#define TEST_ROUNDS(all, instrumented) (all)
#endif

/* Runs a group after printing the seed. LLCUDA_TEST_SEED repeats a run. */
#define TEST_MAIN(tests)                                                 \
    int main(void)                                                       \
    {                                                                    \
        test_seed_print();                                               \
        return cmocka_run_group_tests_name(__FILE__, tests, NULL, NULL); \
    }

/* Fails with the error's message when a status is not OK. */
#define assert_ok(call, error)                                                                    \
    do {                                                                                          \
        llcuda_status assert_ok_status = (call);                                                  \
        if (assert_ok_status != LLCUDA_OK) {                                                      \
            fail_msg("%s: %s: %s", #call, llcuda_status_name(assert_ok_status), (error).message); \
        }                                                                                         \
    } while (0)

/* Within `bound` of each other. cmocka's own comparison takes a NaN for equal to anything. */
#define assert_near(actual, expected, bound)                                                   \
    do {                                                                                       \
        const double assert_near_actual = (double)(actual);                                    \
        const double assert_near_expected = (double)(expected);                                \
        if (!(fabs(assert_near_actual - assert_near_expected) <= (double)(bound))) {           \
            fail_msg("%s is %.9g, expected %s = %.9g", #actual, assert_near_actual, #expected, \
                     assert_near_expected);                                                    \
        }                                                                                      \
    } while (0)

void test_seed_print(void);
/* The next random 64-bit value of the run. */
uint64_t test_random(void);
/* Uniform in [0, bound). */
uint64_t test_random_below(uint64_t bound);
/* Roughly normal with mean 0 and deviation 1. */
float test_random_normal(void);

/* A fresh folder under TMPDIR or /tmp; removed by test_folder_remove. Static storage. */
const char *test_folder_make(void);
void test_folder_remove(const char *folder);

/* Writes bytes to folder/name and returns the path (caller frees). */
char *test_file_write(const char *folder, const char *name, const void *data, size_t bytes);

/* The path of `name` inside the oracle folder (caller frees), or NULL when it is not there: the
 * test then calls skip(). The folder is ../shared/oracle beside the repository, or
 * LLCUDA_ORACLE. */
char *test_oracle_path(const char *name);

/* The path of a file of the repository (caller frees). */
char *test_source_path(const char *name);

#endif
