module plugins/probe

go 1.27

require portreeve v0.0.0

replace portreeve => ../..
