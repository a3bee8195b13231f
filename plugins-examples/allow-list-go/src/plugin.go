// Admits the users of its settings: `user.NAME` holds a user's password, and `device.NAME` the
// device name that it gets, which is its own name otherwise.
package main

import (
	"crypto/subtle"

	"portreeve"
	"portreeve/settings"
	"portreeve/verifier"
)

func init() { verifier.Export(verify) }

// The gateway calls the exported function; main is not run.
func main() {}

func verify(request portreeve.Connect) (portreeve.Verdict, error) {
	refused := portreeve.Refuse(portreeve.BadUserNameOrPassword, "unknown user or wrong password")
	if request.UserName == nil || request.Password == nil {
		return refused, nil
	}
	name := *request.UserName
	password, _ := settings.Get("user." + name)
	if password == "" || subtle.ConstantTimeCompare([]byte(password), request.Password) == 0 {
		return refused, nil
	}
	if device, found := settings.Get("device." + name); found {
		return portreeve.Admit(device), nil
	}
	return portreeve.Admit(name), nil
}
