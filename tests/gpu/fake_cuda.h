/* What the test asks of the fake libraries, by dlsym: every function is exported under its name. */
#ifndef FAKE_CUDA_H
#define FAKE_CUDA_H

/* What the fake machine is like; zeroed fields mean a healthy H200 with one device. */
struct fake_machine {
    int driver_version; /* 12040 */
    int device_count;
    int capability;     /* 90 */
    int not_ready;      /* queries that answer NOT_READY before they answer 0; -1: for ever */
    int compile_result; /* of nvrtcCompileProgram */
    int algorithm_count;
    int nvml_fails;
    int memory_errors;
    unsigned long memory_free; /* 0: a little */
};

/* Forgets calls and failures. */
typedef void fake_reset_function(const struct fake_machine *machine);
/* The call of this name answers `result` from now on; NULL: none does. */
typedef void fake_fail_function(const char *call, int result);
/* The n-th call from now on answers `result`; 0: none does. */
typedef void fake_fail_at_function(int n, int result);
/* The calls so far, one a line, as "name(arguments)". */
typedef const char *fake_log_function(void);
/* Objects that were made and not yet given back. */
typedef int fake_live_function(void);

#endif
