//go:build wasip1

// Package host has the gateway's functions: those that a component imports, and what stands in for
// them in native tests.
package host

import (
	"runtime"
	"strings"
	"unicode/utf8"
	"unsafe"

	"portreeve"
	"portreeve/internal/abi"
	"portreeve/internal/component"
)

//go:wasmimport portreeve:plugin/log@0.1.0 log
func importLog(level uint32, message string, fields unsafe.Pointer, count uint32)

//go:wasmimport portreeve:plugin/log@0.1.0 enabled
func importLogEnabled(level uint32) uint32

//go:wasmimport portreeve:plugin/settings@0.1.0 get
func importSettingsGet(key string, area unsafe.Pointer)

//go:wasmimport portreeve:plugin/settings@0.1.0 all
func importSettingsAll(area unsafe.Pointer)

//go:wasmimport portreeve:plugin/state@0.1.0 get
func importStateGet(key string, area unsafe.Pointer)

//go:wasmimport portreeve:plugin/state@0.1.0 set
func importStateSet(key, value string, hasTTL, ttl uint32, area unsafe.Pointer)

//go:wasmimport portreeve:plugin/state@0.1.0 remove
func importStateRemove(key string)

//go:wasmimport portreeve:plugin/state@0.1.0 increment
func importStateIncrement(key string, by int64, hasTTL, ttl uint32, area unsafe.Pointer)

// What an import returns is copied from here before another goroutine can run.
var (
	optionArea abi.OptionList
	listArea   abi.List
	stateArea  abi.StateResult
)

func Log(level uint8, message string, fields portreeve.Properties) {
	var pinner runtime.Pinner
	defer pinner.Unpin()
	lower := func(text string) (string, abi.List) {
		text = strings.ToValidUTF8(text, "\uFFFD")
		start := unsafe.Pointer(unsafe.StringData(text))
		if len(text) != 0 {
			pinner.Pin(start)
		}
		return text, abi.List{Start: uint32(uintptr(start)), Count: uint32(len(text))}
	}
	list := make([]abi.Property, len(fields))
	for i, field := range fields {
		_, list[i].Name = lower(field.Name)
		_, list[i].Value = lower(field.Value)
	}
	message, _ = lower(message)
	importLog(uint32(level), message, unsafe.Pointer(unsafe.SliceData(list)), uint32(len(list)))
	runtime.KeepAlive(list)
}

func LogEnabled(level uint8) bool { return importLogEnabled(uint32(level)) != 0 }

// Keys that are no UTF-8 are none: the gateway would end the instance.

func Setting(key string) *string {
	if !utf8.ValidString(key) {
		return nil
	}
	component.Mark()
	defer component.Release()
	importSettingsGet(key, unsafe.Pointer(&optionArea))
	option := optionArea
	return component.OptionText(option)
}

func Settings() portreeve.Properties {
	component.Mark()
	defer component.Release()
	importSettingsAll(unsafe.Pointer(&listArea))
	list := listArea
	return component.Properties(list)
}

func StateGet(key string) []byte {
	if !utf8.ValidString(key) {
		return nil
	}
	component.Mark()
	defer component.Release()
	importStateGet(key, unsafe.Pointer(&optionArea))
	option := optionArea
	return component.OptionBytes(option)
}

func StateSet(key string, value []byte, ttl uint32) error {
	if !utf8.ValidString(key) {
		return errKey
	}
	text := unsafe.String(unsafe.SliceData(value), len(value))
	importStateSet(key, text, some(ttl), ttl, unsafe.Pointer(&stateArea))
	result := stateArea
	return stateError(result)
}

func StateRemove(key string) {
	if utf8.ValidString(key) {
		importStateRemove(key)
	}
}

func StateIncrement(key string, by int64, ttl uint32) (int64, error) {
	if !utf8.ValidString(key) {
		return 0, errKey
	}
	importStateIncrement(key, by, some(ttl), ttl, unsafe.Pointer(&stateArea))
	result := stateArea
	if err := stateError(result); err != nil {
		return 0, err
	}
	return result.Value, nil
}

func some(ttl uint32) uint32 { return min(ttl, 1) }

func stateError(result abi.StateResult) error {
	if result.Failed == 0 {
		return nil
	}
	switch uint8(result.Value) {
	case 0:
		return keyTooLong(uint64(uint32(result.Limit)))
	case 1:
		return valueTooLong(uint64(uint32(result.Limit)))
	case 2:
		return full(result.Limit)
	default:
		return errNotACounter
	}
}
