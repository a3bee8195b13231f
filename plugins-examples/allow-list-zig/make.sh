# `sh make.sh` leaves build/allow-list-zig.wasm, `sh make.sh test` runs the unit tests.
exec python3 ../../guest-sdk/zig/build.py "${1:-build}" allow-list-zig
