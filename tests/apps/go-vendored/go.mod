module example.com/go-vendored

go 1.25

require example.com/router v1.0.0
