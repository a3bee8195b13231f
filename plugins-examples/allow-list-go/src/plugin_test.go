package main

import (
	"testing"

	"portreeve"
	"portreeve/portreevetest"
)

func TestOnlyAListedUserWithItsPasswordIsAdmitted(t *testing.T) {
	portreevetest.Start(t, map[string]string{
		"user.device-1": "demo", "user.app": "x", "device.app": "platform", "user.none": "",
	})
	for _, is := range []struct{ userName, password, device string }{
		{"device-1", "demo", "device-1"},
		{"app", "x", "platform"},
		{"device-1", "demO", ""},
		{"device-1", "", ""},
		{"device-2", "demo", ""},
		{"none", "", ""},
		{"", "", ""},
	} {
		request := portreevetest.Connect("c")
		request.UserName, request.Password = &is.userName, []byte(is.password)
		verdict, err := verify(request)
		admission, _ := verdict.(portreeve.Admission)
		if err != nil || admission.DeviceName != is.device {
			t.Errorf("%v: %+v, %v", is, verdict, err)
		}
	}
}

func TestWithoutAPasswordNobodyIsAdmitted(t *testing.T) {
	portreevetest.Start(t, map[string]string{"user.device-1": "demo"})
	request := portreevetest.Connect("c")
	request.UserName = new("device-1")
	verdict, err := verify(request)
	refusal, isRefused := verdict.(portreeve.Refusal)
	if err != nil || !isRefused || refusal.Reason != portreeve.BadUserNameOrPassword {
		t.Errorf("%+v, %v", verdict, err)
	}
}
