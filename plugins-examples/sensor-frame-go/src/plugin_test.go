package main

import (
	"testing"

	"portreeve"
	"portreeve/portreevetest"
)

func ask(t *testing.T, direction portreeve.Direction, topic, payload string) portreeve.Outcome {
	t.Helper()
	context := portreevetest.Context(direction)
	outcome, err := parse(context, portreevetest.Message(topic, []byte(payload)))
	if err != nil {
		t.Fatal(err)
	}
	return outcome
}

func expect(t *testing.T, outcome portreeve.Outcome, topic, payload string) {
	t.Helper()
	messages, isReplaced := outcome.(portreeve.Replace)
	if !isReplaced || len(messages) != 1 {
		t.Fatalf("%+v", outcome)
	}
	if messages[0].Topic != topic || string(messages[0].Payload) != payload {
		t.Errorf("%s %q", messages[0].Topic, messages[0].Payload)
	}
}

func TestAFrameBecomesJSON(t *testing.T) {
	outcome := ask(t, portreeve.Up, "devices/d/raw", "\x08\x66\x11\xc6\x0c\xe4")
	expect(t, outcome, "devices/d/telemetry", `{"temperature":21.5,"humidity":45.5,"battery":3.3}`)
	frost := ask(t, portreeve.Up, "raw", "\xff\x38\x00\x00\x00\x00")
	expect(t, frost, "telemetry", `{"temperature":-2,"humidity":0,"battery":0}`)
}

func TestAFrameOfAnotherLengthIsRejected(t *testing.T) {
	outcome := ask(t, portreeve.Up, "t", "\x08\x66")
	if outcome != portreeve.Reject("a frame has 6 bytes, this has 2") {
		t.Errorf("%+v", outcome)
	}
}

func TestACommandBecomesTwoBytes(t *testing.T) {
	outcome := ask(t, portreeve.Down, "devices/d/set", `{"report_interval":60}`)
	expect(t, outcome, "devices/d/down", "\x00\x3c")
	for _, payload := range []string{`{"report_interval":65536}`, `{}`, `null`} {
		outcome := ask(t, portreeve.Down, "t", payload)
		if _, isRejected := outcome.(portreeve.Reject); !isRejected {
			t.Errorf("%s: %+v", payload, outcome)
		}
	}
}
