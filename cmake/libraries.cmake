# Optional libraries, from Debian packages. A minimal build uses none of them; what is lost then is
# said by `llcuda doctor` and in the README.
find_package(PkgConfig)

# llcuda_optional(VARIABLE pkg-config-module): defines LLCUDA_HAVE_VARIABLE and the target
# PkgConfig::VARIABLE when the module is there; fails with advice when it is not.
macro(llcuda_optional variable module)
    set(LLCUDA_HAVE_${variable} 0)
    if(NOT LLCUDA_MINIMAL)
        pkg_check_modules(${variable} IMPORTED_TARGET ${module})
        if(NOT ${variable}_FOUND)
            message(FATAL_ERROR "${module} is missing: run scripts/install-packages, "
                "or configure with -DLLCUDA_MINIMAL=ON")
        endif()
        set(LLCUDA_HAVE_${variable} 1)
    endif()
endmacro()

llcuda_optional(PCRE2 libpcre2-8)
llcuda_optional(UTF8PROC libutf8proc)
llcuda_optional(EDIT libedit)
llcuda_optional(YAML yaml-0.1)
# Cores, kinds of cores and nodes of memory, for the CPU device.
llcuda_optional(HWLOC hwloc)
# The server: libevent with its threads and its TLS, and OpenSSL.
llcuda_optional(EVENT libevent)
llcuda_optional(EVENT_THREADS libevent_pthreads)
llcuda_optional(EVENT_TLS libevent_openssl)
llcuda_optional(TLS openssl)
# The benchmark suite: charts as PDF, and experiments in a database.
llcuda_optional(CAIRO cairo)
llcuda_optional(SQLITE sqlite3)
configure_file(${PROJECT_SOURCE_DIR}/cmake/build_config.h.in
    ${PROJECT_BINARY_DIR}/generated/build_config.h @ONLY)
