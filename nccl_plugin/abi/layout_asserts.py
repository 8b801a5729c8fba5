"""Prints net_layout_test.cc: what testdata/net_layout.json says, as assertions for the compiler.

Usage: python3 layout_asserts.py testdata/net_layout.json > net_layout_test.cc
"""

import json
import sys

VERSIONS = range(6, 13)

HEADER = """\
// By layout_asserts.py. The compiler checks; a run lists what was checked.
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "gtest/gtest.h"
#include "nccl_plugin/abi/net.h"

namespace taco {
namespace harp {
"""

FOOTER = """
}  // namespace harp
}  // namespace taco"""


def check(condition: str, text: str) -> str:
    return f"static_assert({condition}, {json.dumps(text)});"


def check_type(expression: str, expected: str, what: str) -> str:
    return check(f"std::is_same_v<{expression}, {expected}>", f"{what} is {expected}")


def check_struct(name: str, layout: dict) -> list[str]:
    members = layout["members"]
    lines = [
        check(f"sizeof({name}) == {layout['size']}", f"{name} has {layout['size']} bytes"),
        check(f"alignof({name}) == {layout['align']}", f"{name} is aligned to {layout['align']}"),
        check(f"std::is_trivial_v<{name}> && std::is_standard_layout_v<{name}>", f"{name} is C's"),
        # These are as many names as the structure has members, or it does not compile.
        f"{name} value = {{}};",
        f"[[maybe_unused]] auto& [{', '.join(f'm{i}' for i in range(len(members)))}] = value;",
    ]
    for member, offset, size, type_text in members:
        what = f"{name}::{member}"
        lines += [
            check(f"offsetof({name}, {member}) == {offset}", f"{what} is at {offset}"),
            check(f"sizeof({what}) == {size}", f"{what} has {size} bytes"),
            check_type(f"decltype({what})", type_text, what),
        ]
    return lines


def check_enum(name: str, values: dict) -> list[str]:
    lines = [check(f"sizeof({name}) == sizeof(int)", f"{name} is as large as an int")]
    for value, number in values.items():
        lines += [
            check_type(f"decltype({value})", name, value),
            check(f"static_cast<int>({value}) == {number}", f"{value} is {number}"),
        ]
    return lines


def check_constants(values: dict) -> list[str]:
    return [check(f"{name} == {value}", f"{name} is {value}") for name, value in values.items()]


def check_aliases(types: dict) -> list[str]:
    return [check_type(name, type_text, name) for name, type_text in types.items()]


def test(name: str, lines: list[str]) -> str:
    return "\n".join([f"\nTEST(NetLayout, {name}) {{", *(f"  {line}" for line in lines), "}"])


def main(path: str) -> None:
    with open(path, encoding="utf-8") as file:
        layout = json.load(file)
    missing = {f"ncclNet_v{version}_t" for version in VERSIONS} - set(layout["structs"])
    if missing:
        sys.exit(f"{path} has no {', '.join(sorted(missing))}")

    print(HEADER, end="")
    for name, struct in layout["structs"].items():
        print(test(name, check_struct(name, struct)))
    for name, values in layout["enums"].items():
        print(test(name, check_enum(name, values)))
    print(test("Constants", check_constants(layout["constants"])))
    print(test("Aliases", check_aliases(layout["aliases"])))
    print(FOOTER)


if __name__ == "__main__":
    main(sys.argv[1])
