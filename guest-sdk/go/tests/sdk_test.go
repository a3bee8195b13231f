// Package tests tests the SDK natively; the component tests/probe tests it as a guest.
package tests

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"portreeve"
	"portreeve/log"
	"portreeve/parser"
	"portreeve/portreevetest"
	"portreeve/settings"
	"portreeve/state"
	"portreeve/verifier"
)

func TestTopics(t *testing.T) {
	for topic, sibling := range map[string]string{"a/b/c": "a/b/x", "a": "x", "/": "/x", "a/": "a/x"} {
		if got := portreevetest.Message(topic, nil).SiblingTopic("x"); got != sibling {
			t.Errorf("%s: %s", topic, got)
		}
	}
	if got := portreevetest.Message("a//b", nil).TopicLevels(); !reflect.DeepEqual(got, []string{"a", "", "b"}) {
		t.Error(got)
	}
}

func TestANewPayloadIsNotDescribedByTheOld(t *testing.T) {
	message := portreevetest.Message("a", []byte("x")).JSON()
	message.Retain, message.ResponseTopic = true, new("r")
	other := message.With("b", []byte("y"))
	if other.ContentType != nil || other.PayloadFormat != portreeve.NoPayloadFormat {
		t.Errorf("%+v", other)
	}
	if other.Topic != "b" || string(other.Payload) != "y" || !other.Retain || *other.ResponseTopic != "r" {
		t.Errorf("%+v", other)
	}
	if message.Topic != "a" || *message.ContentType != "application/json" {
		t.Errorf("%+v", message)
	}
}

func TestThePropertyIsTheFirstOfItsName(t *testing.T) {
	properties := portreeve.Properties{{Name: "a", Value: "1"}, {Name: "a", Value: "2"}}
	if value, found := properties.Get("a"); value != "1" || !found {
		t.Error(value, found)
	}
	if _, found := properties.Get("b"); found {
		t.Error("found")
	}
}

func TestOnlyPermitsNothingWithoutPermissions(t *testing.T) {
	if portreeve.Admit("device-1").Permissions != nil {
		t.Error("an admission has the gateway's rules")
	}
	if permissions := portreeve.Only(); permissions == nil || len(*permissions) != 0 {
		t.Error(permissions)
	}
}

func TestSettings(t *testing.T) {
	portreevetest.Start(t, map[string]string{"b": "2", "a": "one"})
	if value, found := settings.Get("a"); value != "one" || !found {
		t.Error(value, found)
	}
	if _, err := settings.Require("c"); err == nil || !strings.Contains(err.Error(), "`c`") {
		t.Error(err)
	}
	if number, err := settings.IntOr("b", 7); number != 2 || err != nil {
		t.Error(number, err)
	}
	if number, err := settings.IntOr("c", 7); number != 7 || err != nil {
		t.Error(number, err)
	}
	if _, err := settings.IntOr("a", 7); err == nil {
		t.Error("no error")
	}
	want := portreeve.Properties{{Name: "a", Value: "one"}, {Name: "b", Value: "2"}}
	if all := settings.All(); !reflect.DeepEqual(all, want) {
		t.Error(all)
	}
}

func TestState(t *testing.T) {
	portreevetest.Start(t, nil)
	if state.Get("k") != nil {
		t.Error("there is an entry")
	}
	value := []byte("x")
	if err := state.Set("k", value, 0); err != nil {
		t.Error(err)
	}
	value[0] = 'y'
	if got := string(state.Get("k")); got != "x" {
		t.Error(got)
	}
	if _, err := state.Increment("k", 1, 0); err == nil {
		t.Error("it is a counter")
	}
	state.Remove("k")
	if sum, err := state.Increment("k", math.MaxInt64, 0); sum != math.MaxInt64 || err != nil {
		t.Error(sum, err)
	}
	if sum, _ := state.Increment("k", 1, 0); sum != math.MaxInt64 {
		t.Error(sum)
	}
	for _, err := range []error{
		state.Set(strings.Repeat("k", 257), nil, 0),
		state.Set("k", make([]byte, 65537), 0),
		state.Set("\xff", nil, 0),
	} {
		if err == nil {
			t.Error("stored")
		}
	}
	if err := state.Set("empty", nil, 0); err != nil || state.Get("empty") == nil {
		t.Error("an empty entry is one")
	}
}

func TestLog(t *testing.T) {
	portreevetest.Start(t, nil)
	log.Warn("text", "a", "1", "b")
	want := []portreevetest.Line{{
		Level: log.LevelWarn, Message: "text", Fields: portreeve.Properties{{Name: "a", Value: "1"}, {Name: "b"}},
	}}
	if lines := portreevetest.Logged(); !reflect.DeepEqual(lines, want) {
		t.Error(lines)
	}
}

func TestAPanicIsAnError(t *testing.T) {
	parser.Export(func(portreeve.Context, portreeve.Message) (portreeve.Outcome, error) {
		panic(errors.New("too much"))
	})
	context := portreevetest.Context(portreeve.Up)
	_, err := parser.Call(context, portreevetest.Message("t", nil))
	if err == nil || !strings.HasPrefix(err.Error(), "panic: too much (portreeve/tests.") {
		t.Error(err)
	}
}

func TestAVerdictMayBeAPointer(t *testing.T) {
	verifier.Export(nil)
	if _, err := verifier.Call(portreevetest.Connect("c")); err == nil {
		t.Error("no error")
	}
	for verdict, want := range map[portreeve.Verdict]bool{
		&portreeve.Admission{DeviceName: "device-1"}: true, (*portreeve.Refusal)(nil): false, nil: false,
	} {
		verifier.Export(func(portreeve.Connect) (portreeve.Verdict, error) { return verdict, nil })
		if _, err := verifier.Call(portreevetest.Connect("c")); (err == nil) != want {
			t.Error(verdict, err)
		}
	}
}
