# llcuda_embed(OUTPUT FOLDER): writes a C file that holds every text of a folder, put
# there by the assembler, so that a changed text rebuilds one object.
function(llcuda_embed output folder)
    file(GLOB texts CONFIGURE_DEPENDS ${folder}/*.cu ${folder}/*.cuh ${folder}/*.h)
    set(declarations)
    set(inclusions)
    set(rows)
    set(index 0)
    foreach(text ${texts})
        get_filename_component(name ${text} NAME)
        string(APPEND declarations
            "extern const char text_${index}_begin[], text_${index}_end[];\n")
        string(APPEND inclusions "        \"text_${index}_begin: .incbin \\\"${text}\\\"\\n\"\n"
            "        \"text_${index}_end: .byte 0\\n\"\n")
        string(APPEND rows "    {\"${name}\", text_${index}_begin, text_${index}_end},\n")
        math(EXPR index "${index} + 1")
    endforeach()
    file(CONFIGURE OUTPUT ${output} CONTENT
"/* Made by cmake/embed.cmake. */
#include \"gpu/kernel_text.h\"

${declarations}
__asm__(\".pushsection .rodata, \\\"a\\\", %progbits\\n\"
${inclusions}        \".popsection\\n\");

const struct kernel_text_row kernel_text_rows[] = {
${rows}};
const size_t kernel_text_count = ${index};
" @ONLY)
    set_source_files_properties(${output} PROPERTIES OBJECT_DEPENDS "${texts}")
endfunction()
