# `sh make.sh` leaves build/allow-list-go.wasm, `sh make.sh test` runs the unit tests. The SDK, with its
# build tool, is where go.mod says.
exec python3 "$(sed -n 's/^replace portreeve => //p' go.mod)/build.py" "${1:-build}" allow-list-go
