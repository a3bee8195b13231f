//go:build wasip1

package component

import (
	"unsafe"

	"portreeve"
	"portreeve/internal/abi"
)

// Text copies a text out of the arena.
func Text(list abi.List) string { return string(Items[byte](list)) }

// Bytes copies bytes out of the arena; they are not nil.
func Bytes(list abi.List) []byte { return append([]byte{}, Items[byte](list)...) }

// Items are the elements of a list, where they lie.
func Items[T any](list abi.List) []T {
	return unsafe.Slice((*T)(unsafe.Pointer(uintptr(list.Start))), list.Count)
}

// Each copies a list, element by element.
func Each[T, U any](list abi.List, copied func(T) U) []U {
	items := Items[T](list)
	if len(items) == 0 {
		return nil
	}
	copies := make([]U, len(items))
	for i, item := range items {
		copies[i] = copied(item)
	}
	return copies
}

func OptionText(option abi.OptionList) *string {
	if option.Some == 0 {
		return nil
	}
	return new(Text(option.Value))
}

func OptionBytes(option abi.OptionList) []byte {
	if option.Some == 0 {
		return nil
	}
	return Bytes(option.Value)
}

func Properties(list abi.List) portreeve.Properties {
	return Each(list, func(property abi.Property) portreeve.Property {
		return portreeve.Property{Name: Text(property.Name), Value: Text(property.Value)}
	})
}
