// Package call keeps an author's panic from ending the instance.
package call

import (
	"errors"
	"fmt"
	"path"
	"runtime"
	"strings"
)

// Guarded calls a function; a panic becomes an error that says where it happened.
func Guarded[T any](function func() (T, error)) (answer T, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = errors.New(fmt.Sprint("panic: ", cause, place()))
		}
	}()
	return function()
}

// place is the first function of the author's on the way to the panic.
func place() string {
	var callers [32]uintptr
	frames := runtime.CallersFrames(callers[:runtime.Callers(3, callers[:])])
	for {
		frame, more := frames.Next()
		if frame.Function != "" && !strings.HasPrefix(frame.Function, "runtime.") {
			return fmt.Sprintf(" (%s, %s:%d)", frame.Function, path.Base(frame.File), frame.Line)
		}
		if !more {
			return ""
		}
	}
}
