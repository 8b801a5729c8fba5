package(default_visibility = ["//visibility:public"])

# Also holds absl, Eigen, tsl, xla and protobuf, in the versions that TensorFlow was built with.
cc_library(
    name = "headers",
    hdrs = glob([
        "include/**/*.h",
        "include/**/*.hpp",
        "include/**/*.inc",
        "include/Eigen/**",
        "include/unsupported/Eigen/**",
    ]),
    defines = ["TACO_TENSORFLOW_VERSION=\\\"%{VERSION}\\\""],
    includes = ["include"],
)

# Linked by name, never copied: at run time the loader finds the copy that TensorFlow has loaded.
exports_files([
    "libtensorflow_cc.so.2",
    "libtensorflow_framework.so.2",
])
