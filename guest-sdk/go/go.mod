module portreeve

go 1.27
