# A room is one folder under src/ and one object library. The table of who may include whom is in
# docs/internals/rooms.md and checked by tests/include_rule.py.

# llcuda_room(NAME SOURCES file… [LIBRARIES target…])
function(llcuda_room name)
    cmake_parse_arguments(ROOM "" "" "SOURCES;LIBRARIES" ${ARGN})
    add_library(room_${name} OBJECT ${ROOM_SOURCES})
    target_include_directories(room_${name} PUBLIC ${PROJECT_SOURCE_DIR}/src
        ${PROJECT_SOURCE_DIR}/include ${PROJECT_BINARY_DIR}/generated)
    if(ROOM_LIBRARIES)
        target_link_libraries(room_${name} PUBLIC ${ROOM_LIBRARIES})
    endif()
    set_property(GLOBAL APPEND PROPERTY LLCUDA_ROOMS room_${name})
endfunction()

# Collects every room made so far into the static library `llcuda_core`.
function(llcuda_library)
    get_property(rooms GLOBAL PROPERTY LLCUDA_ROOMS)
    add_library(llcuda_core STATIC)
    foreach(room ${rooms})
        target_sources(llcuda_core PRIVATE $<TARGET_OBJECTS:${room}>)
        target_link_libraries(llcuda_core PUBLIC
            $<TARGET_PROPERTY:${room},INTERFACE_LINK_LIBRARIES>)
    endforeach()
    target_include_directories(llcuda_core PUBLIC ${PROJECT_SOURCE_DIR}/src
        ${PROJECT_SOURCE_DIR}/include ${PROJECT_BINARY_DIR}/generated)
    target_link_libraries(llcuda_core PUBLIC Threads::Threads m)
endfunction()
