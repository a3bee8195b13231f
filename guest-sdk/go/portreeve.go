// Package portreeve holds what a Portreeve plugin is told and what it answers.
//
// A verifier and a parser are one function each, handed to the gateway in init; main is not run:
//
//	func init() { verifier.Export(verify) }
//
//	func verify(request portreeve.Connect) (portreeve.Verdict, error)
//
//	func init() { parser.Export(parse) }
//
//	func parse(context portreeve.Context, message portreeve.Message) (portreeve.Outcome, error)
//
// Everything that a function is given belongs to it. A pointer or a slice of bytes that is nil
// means that the peer did not send the field; an empty one means that it sent it empty.
//
// An error, and a panic of the function, reach the gateway as the contract's error: it logs the
// text and goes on with the same instance.
package portreeve

// Property is a name and a value that the sender or the registry attached.
type Property struct {
	Name, Value string
}

// Properties keep their order and may repeat a name.
type Properties []Property

// Get gives the value of the first property of this name, and whether there is one.
func (properties Properties) Get(name string) (string, bool) {
	for _, property := range properties {
		if property.Name == name {
			return property.Value, true
		}
	}
	return "", false
}
