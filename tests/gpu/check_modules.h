/* The kernel modules that `make check-kernels` compiles, with preludes that stand for the models in
 * use. X(name, prelude, files after the vendor's words…) */
#ifndef CHECK_MODULES_H
#define CHECK_MODULES_H

#define POINTERS "#define KERNEL_POINTER(type) type *\n"

#define CHECK_MODULES(X) X("measure", POINTERS, "arguments_measure.h", "measure.cu")

#endif
