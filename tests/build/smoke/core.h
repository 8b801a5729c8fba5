#pragma once
#include <string>
#include <vector>
namespace smoke { float Sum(const std::vector<float>& v); std::string Level(); }
