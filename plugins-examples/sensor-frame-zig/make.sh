# `sh make.sh` leaves build/sensor-frame-zig.wasm, `sh make.sh test` runs the unit tests.
exec python3 ../../guest-sdk/zig/build.py "${1:-build}" sensor-frame-zig
