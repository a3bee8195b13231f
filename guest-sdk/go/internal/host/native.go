//go:build !wasip1

// Package host has the gateway's functions: those that a component imports, and what stands in for
// them in native tests, where entries of the state do not expire: a unit test does not wait.
package host

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"sync"
	"unicode/utf8"

	"portreeve"
)

// Line is a line of the log.
type Line struct {
	Level   uint8
	Message string
	Fields  portreeve.Properties
}

var (
	lock     sync.Mutex
	settings = map[string]string{}
	state    = map[string][]byte{}
	lines    []Line
)

// Replace forgets settings, state and log, and sets these settings.
func Replace(wanted map[string]string) {
	lock.Lock()
	defer lock.Unlock()
	settings, state, lines = maps.Clone(wanted), map[string][]byte{}, nil
}

// Lines are those that were logged.
func Lines() []Line {
	lock.Lock()
	defer lock.Unlock()
	return slices.Clone(lines)
}

func Log(level uint8, message string, fields portreeve.Properties) {
	lock.Lock()
	defer lock.Unlock()
	lines = append(lines, Line{level, message, fields})
	text := [...]string{"trace", "debug", "info", "warn", "error"}[level] + ": " + message
	for _, field := range fields {
		text += " " + field.Name + "=" + field.Value
	}
	fmt.Fprintln(os.Stderr, text)
}

func LogEnabled(uint8) bool { return true }

func Setting(key string) *string {
	lock.Lock()
	defer lock.Unlock()
	if value, found := settings[key]; found {
		return &value
	}
	return nil
}

func Settings() portreeve.Properties {
	lock.Lock()
	defer lock.Unlock()
	var all portreeve.Properties
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		all = append(all, portreeve.Property{Name: key, Value: settings[key]})
	}
	return all
}

func StateGet(key string) []byte {
	lock.Lock()
	defer lock.Unlock()
	return slices.Clone(state[key])
}

func StateSet(key string, value []byte, _ uint32) error {
	lock.Lock()
	defer lock.Unlock()
	return store(key, value)
}

func StateRemove(key string) {
	lock.Lock()
	defer lock.Unlock()
	delete(state, key)
}

func StateIncrement(key string, by int64, _ uint32) (int64, error) {
	lock.Lock()
	defer lock.Unlock()
	var counter int64
	if entry, found := state[key]; found {
		if len(entry) != 8 {
			return 0, errNotACounter
		}
		counter = int64(binary.LittleEndian.Uint64(entry))
	}
	sum := counter + by
	if by > 0 && sum < counter {
		sum = math.MaxInt64
	} else if by < 0 && sum > counter {
		sum = math.MinInt64
	}
	return sum, store(key, binary.LittleEndian.AppendUint64(nil, uint64(sum)))
}

func store(key string, value []byte) error {
	switch {
	case !utf8.ValidString(key):
		return errKey
	case len(key) > 256:
		return keyTooLong(256)
	case len(value) > 65536:
		return valueTooLong(65536)
	}
	state[key] = append([]byte{}, value...)
	return nil
}
