# `sh make.sh` leaves build/allow-list-c.wasm, `sh make.sh test` runs the unit tests.
exec python3 ../../guest-sdk/c/build.py "${1:-build}" allow-list-c
