package tests

import (
	"reflect"
	"slices"
	"testing"

	"portreeve/internal/abi"
)

// Where the fields of the contract's records lie, and how long they are: as
// `wit-bindgen c --world plugin` has them for wasm32.
func TestTypesLieInMemoryAsTheContractSays(t *testing.T) {
	for _, is := range []struct {
		of   any
		want []uintptr
	}{
		{abi.Certificate{}, []uintptr{0, 8, 20, 28, 36, 44, 52, 64, 72, 80, 88, 92, 100, 112}},
		{abi.TLS{}, []uintptr{0, 8, 16, 32, 152}},
		{abi.Connection{}, []uintptr{0, 8, 16, 24, 32, 192}},
		{abi.Connect{}, []uintptr{0, 192, 200, 212, 224, 226, 228, 240, 252, 264}},
		{abi.Permission{}, []uintptr{0, 4, 12}},
		{abi.Admission{}, []uintptr{0, 8, 20, 28, 40, 48, 56, 68}},
		{abi.Refusal{}, []uintptr{0, 4, 12, 24}},
		{abi.Context{}, []uintptr{0, 4, 36, 48, 56}},
		{abi.Message{}, []uintptr{0, 8, 16, 18, 19, 20, 32, 44, 56, 64, 72}},
		{abi.ParseArguments{}, []uintptr{0, 56, 128}},
		{abi.AnswerAdmission{}, []uintptr{0, 4, 8, 76}},
		{abi.AnswerRefusal{}, []uintptr{0, 4, 8, 32}},
		{abi.AnswerList{}, []uintptr{0, 4, 8, 16}},
		{abi.AnswerError{}, []uintptr{0, 4, 12}},
		{abi.StateResult{}, []uintptr{0, 8, 16, 24}},
	} {
		layout := reflect.TypeOf(is.of)
		var got []uintptr
		for i := range layout.NumField() {
			got = append(got, layout.Field(i).Offset)
		}
		if got = append(got, layout.Size()); !slices.Equal(got, is.want) {
			t.Errorf("%s: %v, not %v", layout, got, is.want)
		}
	}
}
