// Package parser makes a function the plugin's parser.
package parser

import (
	"errors"

	"portreeve"
	"portreeve/internal/call"
)

// Function translates a message. An error means that it failed: the binding's on_error decides,
// and the text goes to the log.
type Function func(context portreeve.Context, message portreeve.Message) (portreeve.Outcome, error)

var exported Function

// Export names the function. Call it in init: main is not run.
func Export(function Function) { exported = function }

// Call asks the exported function as the gateway does: a panic is an error.
func Call(context portreeve.Context, message portreeve.Message) (portreeve.Outcome, error) {
	if exported == nil {
		return nil, errors.New("no parser: call parser.Export in func init, as main is not run")
	}
	return call.Guarded(func() (portreeve.Outcome, error) {
		outcome, err := exported(context, message)
		if err != nil {
			return nil, err
		}
		switch outcome := outcome.(type) {
		case nil:
			return nil, errors.New("the parser gave neither an outcome nor an error")
		case *portreeve.Pass:
			return *outcome, nil
		case *portreeve.Replace:
			return *outcome, nil
		case *portreeve.Drop:
			return *outcome, nil
		case *portreeve.Reject:
			return *outcome, nil
		default:
			return outcome, nil
		}
	})
}
