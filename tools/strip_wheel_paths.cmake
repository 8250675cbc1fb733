# The ROS wheels' exported targets name an include directory of the machine they were built on
# (/opt/python/cp311...), and CMake refuses targets whose include directories do not exist. Strip it
# from every imported target once the project's find_package calls are done.
function(_crl_strip_wheel_paths)
  get_property(targets DIRECTORY "${CMAKE_SOURCE_DIR}" PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(directories ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(directories MATCHES "/opt/python/")
      list(FILTER directories EXCLUDE REGEX "^/opt/python/")
      set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${directories}")
    endif()
  endforeach()
endfunction()
cmake_language(DEFER DIRECTORY "${CMAKE_SOURCE_DIR}" CALL _crl_strip_wheel_paths)
