//go:build wasip1

package component

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
	"unsafe"

	"portreeve"
	"portreeve/internal/abi"
)

var (
	// area is where the answer of an export lies; the answers have at most 4-byte alignment.
	area [unsafe.Sizeof(abi.AnswerAdmission{}) / 4]uint32
	// What area points to; the collector does not move it, and must not free it before it was read.
	kept []unsafe.Pointer
	// What the answer holds that the gateway would not take: it would end the instance.
	invalid error
)

func forget() {
	clear(kept)
	kept, invalid = kept[:0], nil
}

// Area is where the answer goes, as one of the Answer types.
func Area[T any]() *T {
	clear(area[:])
	return (*T)(unsafe.Pointer(&area))
}

// Answered gives the address of the answer, or of an error where the answer is invalid.
func Answered() uintptr {
	if invalid != nil {
		return Failed(invalid)
	}
	return uintptr(unsafe.Pointer(&area))
}

// Failed answers with the text of an error.
func Failed(err error) uintptr {
	answer := Area[abi.AnswerError]()
	answer.Failed, answer.Text = 1, PutText(strings.ToValidUTF8(err.Error(), "\uFFFD"))
	return uintptr(unsafe.Pointer(&area))
}

func PutText(text string) abi.List {
	if !utf8.ValidString(text) {
		invalid = errors.New("the answer holds a text that is no UTF-8: " + text)
	}
	return put(unsafe.Pointer(unsafe.StringData(text)), len(text))
}

// PutEnum lowers a constant, the greatest of which is last.
func PutEnum(value, last uint8, what string) uint8 {
	if value > last {
		invalid = errors.New("the answer holds no " + what + " but the number " + strconv.Itoa(int(value)))
		return 0
	}
	return value
}

func PutBytes(bytes []byte) abi.List { return PutItems(bytes) }

func PutItems[T any](items []T) abi.List {
	return put(unsafe.Pointer(unsafe.SliceData(items)), len(items))
}

func put(start unsafe.Pointer, count int) abi.List {
	if count == 0 {
		return abi.List{}
	}
	kept = append(kept, start)
	return abi.List{Start: uint32(uintptr(start)), Count: uint32(count)}
}

// PutEach lowers a list, element by element.
func PutEach[T, U any](items []T, lowered func(T) U) abi.List {
	if len(items) == 0 {
		return abi.List{}
	}
	list := make([]U, len(items))
	for i, item := range items {
		list[i] = lowered(item)
	}
	return PutItems(list)
}

func PutOptionText(text *string) abi.OptionList {
	if text == nil {
		return abi.OptionList{}
	}
	return abi.OptionList{Some: 1, Value: PutText(*text)}
}

// PutTextIfAny lowers none for an empty text.
func PutTextIfAny(text string) abi.OptionList {
	if text == "" {
		return abi.OptionList{}
	}
	return abi.OptionList{Some: 1, Value: PutText(text)}
}

func PutOptionBytes(bytes []byte) abi.OptionList {
	if bytes == nil {
		return abi.OptionList{}
	}
	return abi.OptionList{Some: 1, Value: PutBytes(bytes)}
}

// PutIfAny lowers none for 0.
func PutIfAny(number uint32) abi.OptionU32 {
	if number == 0 {
		return abi.OptionU32{}
	}
	return abi.OptionU32{Some: 1, Value: number}
}

func PutProperties(properties portreeve.Properties) abi.List {
	return PutEach(properties, func(property portreeve.Property) abi.Property {
		return abi.Property{Name: PutText(property.Name), Value: PutText(property.Value)}
	})
}
