# Flags that hold for every file of ours; third-party headers are SYSTEM.
add_compile_options(-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror -ffunction-sections
                    -fdata-sections)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # g++ 12 gives false positives of this one in std::string at -O2 (GCC bug 105329).
  add_compile_options(-Wno-restrict)
endif()
add_link_options(-Wl,--gc-sections)
if(CLUSTERCTL_SANITIZE)
  add_compile_options(-fsanitize=${CLUSTERCTL_SANITIZE} -fno-omit-frame-pointer
                      -fno-sanitize-recover=all)
  if(CLUSTERCTL_SANITIZE MATCHES "undefined")
    # A third of the compiler's time, for what the address sanitizer and the processor tell as well.
    add_compile_options(-fno-sanitize=null,alignment,vptr,object-size)
  endif()
  add_link_options(-fsanitize=${CLUSTERCTL_SANITIZE})
endif()
if(CMAKE_BUILD_TYPE STREQUAL "Release")
  # Broken invariants must abort in the shipped binary too.
  string(REPLACE "-DNDEBUG" "" CMAKE_CXX_FLAGS_RELEASE "${CMAKE_CXX_FLAGS_RELEASE}")
  string(REPLACE "-O3" "-O2" CMAKE_CXX_FLAGS_RELEASE "${CMAKE_CXX_FLAGS_RELEASE}")
endif()
