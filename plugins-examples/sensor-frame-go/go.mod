module plugins/sensor-frame-go

go 1.27

require portreeve v0.0.0

replace portreeve => ./../../guest-sdk/go
