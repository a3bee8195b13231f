//go:build !wasip1

// Package portreevetest stands in for the gateway in native unit tests: settings, state and log
// are kept in memory. They are the process's, so such tests do not run in parallel.
//
//	portreevetest.Start(t, map[string]string{"user.device-1": "demo"})
//	request := portreevetest.Connect("client-1")
//	request.UserName, request.Password = new("device-1"), []byte("demo")
//	verdict, err := verify(request)
package portreevetest

import (
	"testing"

	"portreeve"
	"portreeve/internal/host"
	"portreeve/log"
)

// Start begins a test with these settings, an empty state and an empty log; the end of the test
// forgets them.
func Start(t testing.TB, settings map[string]string) {
	t.Helper()
	host.Replace(settings)
	t.Cleanup(func() { host.Replace(nil) })
}

// Line is a line of the log.
type Line struct {
	Level   log.Level
	Message string
	Fields  portreeve.Properties
}

// Logged gives the lines that the plugin logged since Start.
func Logged() []Line {
	var lines []Line
	for _, line := range host.Lines() {
		lines = append(lines, Line{log.Level(line.Level), line.Message, line.Fields})
	}
	return lines
}

// Connect is a CONNECT of this client identifier over a plain MQTT 5 connection, to be completed.
func Connect(clientID string) portreeve.Connect {
	return portreeve.Connect{
		Connection: portreeve.Connection{
			ID:          1,
			Gateway:     "test",
			PeerAddress: "192.0.2.1:50000",
			Protocol:    portreeve.MQTT5,
		},
		ClientID:   clientID,
		CleanStart: true,
		KeepAlive:  60,
	}
}

// Context is one with the device "device-1".
func Context(direction portreeve.Direction) portreeve.Context {
	return portreeve.Context{
		Direction: direction,
		Device:    portreeve.Device{Name: "device-1", Product: "test", ClientID: "client-1"},
		Gateway:   "test",
	}
}

// Message is one with QoS 0.
func Message(topic string, payload []byte) portreeve.Message {
	return portreeve.Message{Topic: topic, Payload: payload}
}
