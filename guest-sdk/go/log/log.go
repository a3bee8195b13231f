// Package log writes lines to the gateway's log, under the plugin's name. In native tests they go
// to standard error. By default 100 lines a second of 8 KiB each are kept.
package log

import (
	"portreeve"
	"portreeve/internal/host"
)

// Level is how much a line matters.
type Level uint8

const (
	LevelTrace Level = iota
	LevelDebug
	LevelInfo
	LevelWarn
	LevelError
)

// Write writes a line with fields, which are names and values in turn. It never fails and never
// blocks.
func Write(level Level, message string, fields ...string) {
	var properties portreeve.Properties
	for i := 0; i < len(fields); i += 2 {
		property := portreeve.Property{Name: fields[i]}
		if i+1 < len(fields) {
			property.Value = fields[i+1]
		}
		properties = append(properties, property)
	}
	host.Log(uint8(level), message, properties)
}

// Enabled tells whether a line of this level would be written. Ask before building an expensive
// one.
func Enabled(level Level) bool { return host.LogEnabled(uint8(level)) }

// Trace writes a line about every step. Fields are names and values in turn, as in all of these.
func Trace(message string, fields ...string) { Write(LevelTrace, message, fields...) }

// Debug writes a line for whoever debugs the plugin.
func Debug(message string, fields ...string) { Write(LevelDebug, message, fields...) }

// Info writes a line that an operator may want to read.
func Info(message string, fields ...string) { Write(LevelInfo, message, fields...) }

// Warn writes a line that an operator should read.
func Warn(message string, fields ...string) { Write(LevelWarn, message, fields...) }

// Error writes a line that an operator must act upon.
func Error(message string, fields ...string) { Write(LevelError, message, fields...) }
