#pragma once
#include <vector>
#define DECL(ns) namespace smoke::ns { float Sum(const std::vector<float>& v); const char* Name(); }
DECL(v2) DECL(v3) DECL(v4)
