// Package verifier makes a function the plugin's verifier.
package verifier

import (
	"errors"

	"portreeve"
	"portreeve/internal/call"
)

// Function decides who a connecting device is. An error means that it could not: the CONNECT is
// refused as "server unavailable", and the text goes to the log.
type Function func(request portreeve.Connect) (portreeve.Verdict, error)

var exported Function

// Export names the function. Call it in init: main is not run.
func Export(function Function) { exported = function }

// Call asks the exported function as the gateway does: a panic is an error.
func Call(request portreeve.Connect) (portreeve.Verdict, error) {
	if exported == nil {
		return nil, errors.New("no verifier: call verifier.Export in func init, as main is not run")
	}
	return call.Guarded(func() (portreeve.Verdict, error) {
		verdict, err := exported(request)
		if err != nil {
			return nil, err
		}
		switch verdict := verdict.(type) {
		case nil:
			return nil, errors.New("the verifier gave neither a verdict nor an error")
		case *portreeve.Admission:
			return *verdict, nil
		case *portreeve.Refusal:
			return *verdict, nil
		case *portreeve.Challenge:
			return *verdict, nil
		default:
			return verdict, nil
		}
	})
}
