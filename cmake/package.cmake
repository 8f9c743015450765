# The library as other programs use it: libllcuda.so and libllcuda.a with the public headers, a
# pkg-config file and a CMake package. Only what LLCUDA_API marks is visible in the shared one.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# Rooms under the public interface; net, server and cli are not part of it.
set(library_rooms base tensor format text plan model device cpu gpu engine)
if(TARGET room_cpu_plain) # in sanitizer builds
    list(APPEND library_rooms cpu_plain)
endif()

set(library_dependencies Threads::Threads m ${CMAKE_DL_LIBS})
foreach(module HWLOC PCRE2 UTF8PROC)
    if(LLCUDA_HAVE_${module})
        list(APPEND library_dependencies PkgConfig::${module})
    endif()
endforeach()

function(llcuda_package_library target kind export_name)
    add_library(${target} ${kind})
    add_library(llcuda::${export_name} ALIAS ${target})
    foreach(room ${library_rooms})
        target_sources(${target} PRIVATE $<TARGET_OBJECTS:room_${room}>)
    endforeach()
    target_link_libraries(${target} PRIVATE ${library_dependencies})
    target_include_directories(${target} PUBLIC
        $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
        $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
    set_target_properties(${target} PROPERTIES
        OUTPUT_NAME llcuda
        EXPORT_NAME ${export_name}
        VERSION ${PROJECT_VERSION}
        SOVERSION ${PROJECT_VERSION_MAJOR})
endfunction()

llcuda_package_library(llcuda_shared SHARED llcuda)
llcuda_package_library(llcuda_static STATIC llcuda_static)

install(TARGETS llcuda_shared llcuda_static EXPORT llcudaTargets
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT library
    ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT library)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/llcuda
    DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT library
    FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp")

set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/llcuda)
install(EXPORT llcudaTargets NAMESPACE llcuda:: DESTINATION ${package_folder} COMPONENT library)
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/llcudaConfig.cmake.in
    ${PROJECT_BINARY_DIR}/generated/llcudaConfig.cmake INSTALL_DESTINATION ${package_folder})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/generated/llcudaConfigVersion.cmake
    COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/generated/llcudaConfig.cmake
    ${PROJECT_BINARY_DIR}/generated/llcudaConfigVersion.cmake
    DESTINATION ${package_folder} COMPONENT library)

# pkg-config: what a static link needs besides goes into Requires.private.
# hwloc by name only: its own pkg-config file asks for what a static hwloc needs.
set(pkg_config_requires)
set(pkg_config_libs)
if(LLCUDA_HAVE_HWLOC)
    set(pkg_config_libs -lhwloc)
endif()
if(LLCUDA_HAVE_PCRE2)
    list(APPEND pkg_config_requires libpcre2-8)
endif()
if(LLCUDA_HAVE_UTF8PROC)
    list(APPEND pkg_config_requires libutf8proc)
endif()
list(JOIN pkg_config_requires ", " pkg_config_requires)
# Relative to the file itself, so that an installation may be moved.
file(RELATIVE_PATH pkg_config_prefix /x/${CMAKE_INSTALL_LIBDIR}/pkgconfig /x)
configure_file(${PROJECT_SOURCE_DIR}/cmake/llcuda.pc.in
    ${PROJECT_BINARY_DIR}/generated/llcuda.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/generated/llcuda.pc
    DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT library)

add_subdirectory(${PROJECT_SOURCE_DIR}/examples ${PROJECT_BINARY_DIR}/examples)
