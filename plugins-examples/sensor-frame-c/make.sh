# `sh make.sh` leaves build/sensor-frame-c.wasm, `sh make.sh test` runs the unit tests.
exec python3 ../../guest-sdk/c/build.py "${1:-build}" sensor-frame-c
